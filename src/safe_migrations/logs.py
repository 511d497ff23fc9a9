"""Loggers: those of other libraries kept quiet for a while, those of this library heard."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Let a logger, and those below it, tell warnings only; afterwards they tell what they did before.

    Args:
        name: the logger's.
    """
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(level)


def enable() -> None:
    """Let this library be heard: fileConfig() of a stock `env.py` has disabled all loggers that existed before."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.partition(".")[0] == "safe_migrations" and isinstance(logger, logging.Logger):
            logger.disabled = False
