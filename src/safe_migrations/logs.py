"""Loggers of other libraries, kept quiet for as long as a command tells the same by itself."""

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
