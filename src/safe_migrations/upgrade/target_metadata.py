"""The models: what `env.py` gives as `target_metadata`."""

import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import MetaData, Table
from sqlalchemy.exc import SQLAlchemyError

from safe_migrations.errors import ConfigurationError, ModelError

_SQLALCHEMY = Path(sqlalchemy.__file__).parent


def check_models(target_metadata: object) -> None:
    """Check what `env.py` gives as `target_metadata`.

    Raises:
        ConfigurationError: it is something else.
    """
    several = list(target_metadata) if isinstance(target_metadata, Sequence) else [target_metadata]
    if target_metadata is not None and not all(isinstance(metadata, MetaData) for metadata in several):
        raise ConfigurationError(
            "target_metadata in env.py is not a MetaData of SQLAlchemy, nor a list of them. Correct this line:\n"
            "run_env(target_metadata=Base.metadata, database_url=…)"
        )


@contextmanager
def explained_models(what: str = "") -> Iterator[None]:
    """Say in one sentence what SQLAlchemy or Python refuses in the models, such as the markers of a conflict.

    Args:
        what: the table or the column that is read; by default, the file and the line of the models, and the table
            that SQLAlchemy was reading.
    """
    try:
        yield
    except SyntaxError as error:
        raise ModelError(
            f"{os.path.relpath(error.filename or '')}:{error.lineno} is not Python ({error.msg}): "
            f"{(error.text or '').strip()}\nCorrect this line, then run the same command again."
        ) from error
    except Exception as error:
        if not (isinstance(error, SQLAlchemyError) or _is_of_sqlalchemy(_frames(error)[-1][0])):
            raise
        reason = " ".join(str(error).split()).rstrip(".?")
        raise ModelError(
            f"SQLAlchemy refuses the models ({what or _place(error)}): {reason}. Correct the models, then run the same "
            "command again."
        ) from error


def _place(error: Exception) -> str:
    frames = _frames(error)
    file, line = next((file, line) for file, line, _ in reversed(frames) if not _is_of_sqlalchemy(file))
    tables = [value.fullname for *_, values in frames for value in values.values() if isinstance(value, Table)]
    return ", ".join([f"{os.path.relpath(file)}:{line}", *(f"table {name}" for name in tables[-1:])])


def _frames(error: Exception) -> list[tuple[str, int, dict[str, Any]]]:
    """The file, the line and the values of each call that led to an error."""
    frames = traceback.walk_tb(error.__traceback__)
    return [(frame.f_code.co_filename, line, frame.f_locals) for frame, line in frames]


def _is_of_sqlalchemy(file: str) -> bool:
    return file.startswith("<sqlalchemy ") or Path(file).is_relative_to(_SQLALCHEMY)  # some files are generated
