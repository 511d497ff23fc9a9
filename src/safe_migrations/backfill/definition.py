"""What a backfill is, where it is written, and whether it is complete.

A backfill changes the data of a big table outside the revisions, while the service runs; `alembic/backfills/NAME.py`:

    from safe_migrations.backfills import Backfill

    item = sa.table("item", sa.column("id"), sa.column("sku"), sa.column("name"))
    backfill = Backfill(table=item, key=("id",), where=item.c.sku.is_(None), values={"sku": sa.func.lower(item.c.name)})
"""

import ast
import importlib.util
import os
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.script import Script
from sqlalchemy import ColumnElement, Connection, TableClause, exists, func, literal_column, select, text, true
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import visitors

from safe_migrations.errors import MigrationError
from safe_migrations.postgres.connection import reason, sqlstate

SCHEMA = "safe_migrations"  # of the progress of backfills, apart from the service's own tables
COMMAND = "safe-migrations backfill"
MISSING = ("3F000", "42703", "42P01")  # a schema, a column, a table

_FINISHED = text("SELECT finished_at IS NOT NULL FROM safe_migrations.backfill WHERE name = :name")


class NothingThereError(MigrationError):
    """The database does not have, not yet or no longer, what a backfill is about."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Backfill:
    """A change of many rows, in batches.

    Attributes:
        table: with the columns that are named below.
        key: the columns that order the rows, unique together and NOT NULL: best the primary key.
        values: what the columns become; empty as long as a person still has to write it.
        where: the rows that are to be changed, and match no longer when they are; None for all rows, each once.
        batch_size: how many rows are changed, and locked, in one transaction.
    """

    table: TableClause
    key: tuple[str, ...]
    values: Mapping[str, Any]
    where: ColumnElement[bool] | None = None
    batch_size: int = 1000

    def __post_init__(self) -> None:
        """Refuse what can't work."""
        if self.where is not None and not isinstance(self.where, ColumnElement):
            raise MigrationError("where is no expression of SQL: write item.c.sku.is_(None), not item.c.sku is None")
        unnamed = [name for name in (*self.key, *self.values) if name not in self.table.c]
        if isinstance(self.key, str) or not self.key or self.batch_size < 1:
            raise MigrationError('a key is a tuple of names, such as ("id",), and a batch_size is at least 1')
        if unnamed:
            raise MigrationError(f"sa.table has no sa.column for {', '.join(unnamed)}")
        if changed := [name for name in self.key if name in self.values]:
            raise MigrationError(f"values changes the key ({', '.join(changed)}), so that rows could be met twice")

    @property
    def matching(self) -> ColumnElement[bool]:
        """What the rows that are to be changed have in common."""
        return true() if self.where is None else self.where


def required_backfills(script: Script) -> tuple[str, ...]:
    """The backfills that have to be complete before a revision runs; it declares a name, or several.

    Args:
        script: the revision.
    """
    names: str | Iterable[str] = getattr(script.module, "requires_backfill", None) or ()
    return (names,) if isinstance(names, str) else tuple(names)


def backfill_names(folder: Path) -> list[str]:
    """The names of the backfills, in order.

    Args:
        folder: `alembic/backfills`; it may be missing.
    """
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def load_backfill(folder: Path, name: str) -> Backfill:
    """Read the definition of a backfill.

    Args:
        folder: `alembic/backfills`.
        name: of its file, without the suffix.

    Raises:
        MigrationError: there is no such file, or it can't be used.
    """
    path = folder / f"{name}.py"
    if name not in backfill_names(folder):
        known = f"there are {', '.join(names)}" if (names := backfill_names(folder)) else "there is none"
        raise MigrationError(f"There is no backfill {name} ({os.path.relpath(path)}): {known}.")
    specification = importlib.util.spec_from_file_location(f"backfill_{name}", path)
    if specification is None or specification.loader is None:
        raise MigrationError(f"{os.path.relpath(path)} can't be read.")
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        message = f"{_place(path, error)} can't be used ({reason(error)}): correct it, then run the same command again."
        raise MigrationError(message) from error
    backfill = getattr(module, "backfill", None)
    if not isinstance(backfill, Backfill):
        raise MigrationError(f"{os.path.relpath(path)} defines no backfill: write backfill = Backfill(…) there.")
    return backfill


def refuse_unwritten(folder: Path, name: str, backfill: Backfill) -> None:
    """Refuse a backfill that doesn't say what its columns become.

    Args:
        folder: `alembic/backfills`.
        name: the backfill's.
        backfill: its definition.

    Raises:
        MigrationError: `values` is empty.
    """
    if backfill.values:
        return
    path = folder / f"{name}.py"
    keywords = (node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.keyword))
    line = next((keyword.lineno for keyword in keywords if keyword.arg == "values"), 1)
    parts = [] if backfill.where is None else list(visitors.iterate(backfill.where))
    named = (column for column in backfill.table.c if any(part is column for part in parts))
    columns = " and ".join(f"{backfill.table.name}.{column.name}" for column in named)
    raise MigrationError(
        f"Nothing was changed: write what {columns or f'the columns of {backfill.table.name}'} becomes in "
        f"{os.path.relpath(path)}:{line} (values), then run {COMMAND} {name} again."
    )


def is_complete(connection: Connection, backfill: Backfill, name: str) -> bool:
    """Whether no row is left to be changed.

    With `where` the rows themselves tell, so that what was written after the end counts. Without it the progress does,
    or the table is empty.

    Args:
        connection: to the database.
        backfill: its definition.
        name: its name.

    Raises:
        NothingThereError: its table or a column does not exist.
    """
    if backfill.where is None and _finished(connection, name):
        return True
    try:
        rows = exists(literal_column("1")).select_from(backfill.table).where(backfill.matching)
        return not connection.scalar(select(rows))
    except DBAPIError as error:
        if sqlstate(error) not in MISSING:
            raise
        raise NothingThereError(
            f"The backfill {name} needs what the database does not have ({reason(error)}): run the revision that adds "
            f"it first, unless it has gone with a later one, or correct alembic/backfills/{name}.py."
        ) from error


def refuse_incomplete(connection: Connection, script: Script, folder: Path) -> None:
    """Refuse a revision as long as the backfills that it needs are not complete.

    Args:
        connection: to the database; in a transaction afterwards.
        script: the revision; its `requires_backfill` is a name or several.
        folder: `alembic/backfills`.

    Raises:
        MigrationError: a backfill is not complete, or can't be read.
    """
    try:
        backfills = {name: load_backfill(folder, name) for name in required_backfills(script)}
    except MigrationError as error:
        raise MigrationError(f"{os.path.relpath(script.path)} needs a backfill. {error}") from error
    missing = [name for name, backfill in backfills.items() if not is_complete(connection, backfill, name)]
    if missing:
        which = (
            f"backfill {missing[0]}, which is" if len(missing) == 1 else f"backfills {', '.join(missing)}, which are"
        )
        commands = "; ".join(f"{COMMAND} {name}" for name in missing)
        raise MigrationError(
            f"{os.path.relpath(script.path)} needs the {which} not complete: nothing of this revision was run. "
            f"Run {commands}; then run the same command again."
        )


def _finished(connection: Connection, name: str) -> bool:
    recorded = connection.scalar(select(func.to_regclass(f"{SCHEMA}.backfill"))) is not None
    return recorded and bool(connection.scalar(_FINISHED, {"name": name}))


def _place(path: Path, error: Exception) -> str:
    """The file, and the line of it that failed where that is known."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
    return ":".join([os.path.relpath(path), *(str(line) for line in lines[-1:])])
