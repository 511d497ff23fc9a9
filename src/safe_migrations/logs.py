"""Loggers: of other libraries, quiet for a while; of this library, enabled."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from safe_migrations.printable import printable


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Let a logger, and those below it, log warnings only; afterwards, restore its level."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(level)


def enable() -> None:
    """Enable this library's loggers, and escape the names of a database in Alembic's lines.

    fileConfig() of a stock `env.py` disables all loggers that exist before it.
    """
    for handler in logging.root.handlers:
        handler.addFilter(_escape_names)
    for name, logger in logging.root.manager.loggerDict.items():
        if name.partition(".")[0] == "safe_migrations" and isinstance(logger, logging.Logger):
            logger.disabled = False


def _escape_names(record: logging.LogRecord) -> bool:
    if record.name.partition(".")[0] == "alembic":
        record.msg, record.args = printable(record.getMessage()), ()
    return True
