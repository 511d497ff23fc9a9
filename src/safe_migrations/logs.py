"""Loggers: of other libraries, quiet for a while; of this library, enabled. Lines for people, or for machines."""

import json
import logging
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

from safe_migrations.errors import INTERRUPTED, ConfigurationError, MigrationError
from safe_migrations.printable import printable

FORMAT = "MIGRATION_LOG_FORMAT"
FIELDS = (
    *("revision", "phase", "step", "seconds", "blockers"),  # of an upgrade or a downgrade
    *("backfill", "rows", "total"),
    *("kind", "exit_status", "traceback"),  # of an error
)


class _JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        values = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        values |= {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return json.dumps(values, default=str)  # a project's own loggers may have fields of these names


_JSON = _JsonFormatter()
_uses_json = False  # in this process


def use_format(variables: Mapping[str, str]) -> None:
    """Write lines for people, or JSON, as MIGRATION_LOG_FORMAT says; for a process that runs one command.

    Raises:
        ConfigurationError: the value is neither `text` nor `json`.
    """
    global _uses_json
    value = variables.get(FORMAT) or "text"
    if value not in ("text", "json"):
        raise ConfigurationError(f"{FORMAT} is {value!r}; write text or json.")
    _uses_json = value == "json"
    if _uses_json:
        warnings.showwarning = _write_warning
        if logging.lastResort is not None:  # for loggers without a handler
            logging.lastResort.setFormatter(_JSON)
        sys.excepthook = _write_crash


def write(text: str, stream: TextIO | None = None, *, level: int = logging.INFO, **fields: Any) -> None:
    """Write a line that is not logged: what a command reports, or its error.

    Args:
        level: of the line, where it becomes JSON.
        fields: more for machines, of `FIELDS`.
    """
    if _uses_json:
        record = {"name": "safe_migrations", "levelno": level, "levelname": logging.getLevelName(level), "msg": text}
        text = _JSON.format(logging.makeLogRecord(record | fields))
    print(text, file=stream or sys.stdout, flush=True)


def write_error(error: BaseException) -> None:
    """Write the error with which a command ends to standard error."""
    interrupted = isinstance(error, KeyboardInterrupt)
    status = 130 if interrupted else getattr(error, "exit_status", MigrationError.exit_status)
    text = INTERRUPTED if interrupted else str(error)
    write(text, sys.stderr, level=logging.ERROR, kind=type(error).__name__, exit_status=status)


def uses_json() -> bool:
    """Whether lines are JSON, so that a terminal shows no bar."""
    return _uses_json


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
    """Enable this library's loggers, let all handlers write the chosen format, and escape names in Alembic's lines.

    fileConfig() of an `env.py` disables the loggers that exist before it, and gives each handler its own format.
    """
    loggers = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    for handler in logging.root.handlers:
        handler.addFilter(_prepare)
    for logger in loggers:
        if logger.name.partition(".")[0] == "safe_migrations":
            logger.disabled = False
    if _uses_json:
        for handler in (handler for logger in (logging.root, *loggers) for handler in logger.handlers):
            handler.setFormatter(_JSON)


def _prepare(record: logging.LogRecord) -> bool:
    """Escape the names of a database in a line of Alembic's, and keep which revision the line is about."""
    if record.name.partition(".")[0] == "alembic":
        for argument in record.args if isinstance(record.args, tuple) else ():
            if (script := getattr(argument, "revision", None)) is not None:  # an argument of "Running upgrade …"
                record.revision, record.phase = script.revision, getattr(script.module, "phase", None)
        record.msg, record.args = printable(record.getMessage()), ()
    return True


def _write_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object, **__: object
) -> None:
    text = warnings.formatwarning(message, category, filename, lineno).rstrip()
    write(text, sys.stderr, level=logging.WARNING, kind=category.__name__)


def _write_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    lines = "".join(traceback.format_exception(kind, error, trace))
    text = f"{kind.__name__}: {error}"
    write(text, sys.stderr, level=logging.CRITICAL, kind=kind.__name__, exit_status=1, traceback=lines)
