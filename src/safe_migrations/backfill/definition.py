"""The definition of a backfill, and the check whether a backfill is complete.

A backfill changes the data of a big table outside the revisions, while the service runs; `alembic/backfills/NAME.py`:

    from safe_migrations.backfills import Backfill

    item = sa.table("item", sa.column("id"), sa.column("sku"), sa.column("name"))
    backfill = Backfill(table=item, key=("id",), where=item.c.sku.is_(None), values={"sku": sa.func.lower(item.c.name)})
"""

import ast
import os
import shlex
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.script import Script
from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    Connection,
    TableClause,
    exists,
    literal,
    literal_column,
    select,
    text,
    true,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.sql import visitors

from safe_migrations.errors import BackfillError
from safe_migrations.files import load_module
from safe_migrations.postgres.catalog import hides_rows
from safe_migrations.postgres.own_tables import has_table
from safe_migrations.postgres.server_errors import reason, sqlstate
from safe_migrations.postgres.sql import qualified

MISSING = ("3F000", "42703", "42P01")  # a schema, a column, a table

_FINISHED = text("SELECT finished_at IS NOT NULL FROM safe_migrations.backfill WHERE name = :name")


class NothingThereError(BackfillError):
    """The database does not have the table or a column of a backfill, not yet or no longer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Backfill:
    """A change of many rows, in batches.

    Attributes:
        table: with the columns that are named below.
        key: the columns that order the rows, unique together and NOT NULL, such as the primary key.
        values: the new values of columns; empty until a developer has written them.
        where: matches the rows to change, and no longer matches a changed row; None for all rows, each once.
        batch_size: how many rows are changed, and locked, in one transaction.
    """

    table: TableClause
    key: tuple[str, ...]
    values: Mapping[str, Any]
    where: ColumnElement[bool] | None = None
    batch_size: int = 1000

    def __post_init__(self) -> None:
        """Refuse arguments that can't work."""
        if self.where is not None and not isinstance(self.where, ColumnElement):
            raise BackfillError("where is not an SQL expression; write item.c.sku.is_(None), not item.c.sku is None")
        unnamed = [name for name in (*self.key, *self.values) if name not in self.table.c]
        if isinstance(self.key, str) or not self.key or self.batch_size < 1:
            raise BackfillError('a key is a tuple of names, such as ("id",), and a batch_size is at least 1')
        if unnamed:
            raise BackfillError(f"sa.table has no sa.column for {', '.join(unnamed)}")
        if changed := [name for name in self.key if name in self.values]:
            raise BackfillError(f"values changes the key ({', '.join(changed)}), so rows could be changed twice")

    @property
    def matching(self) -> ColumnElement[bool]:
        """The condition of the rows to change."""
        return true() if self.where is None else self.where


def required_backfills(script: Script) -> tuple[str, ...]:
    """The backfills that have to be complete before a revision runs, as its `requires_backfill` names them."""
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
        name: of its file, without the suffix.

    Raises:
        BackfillError: there is no such file, or it can't be used.
    """
    path = folder / f"{name}.py"
    if name not in (names := backfill_names(folder)):
        others = f"The backfills: {', '.join(names)}." if names else "There are no other backfills."
        raise BackfillError(f"There is no backfill {name} ({os.path.relpath(path)}). {others}")
    try:
        module = load_module(f"backfill_{name}", path)
    except (Exception, SystemExit) as error:
        raise BackfillError(
            f"{_place(path, error)} can't be used ({reason(error)}). Correct the file, then run the same command again."
        ) from error
    backfill = getattr(module, "backfill", None)
    if not isinstance(backfill, Backfill):
        raise BackfillError(f"{os.path.relpath(path)} defines no backfill; write backfill = Backfill(…) there.")
    return backfill


def backfill_command(name: str) -> str:
    """The command that runs a backfill."""
    return f"safe-migrations backfill {shlex.quote(name)}"


def refuse_unwritten(folder: Path, name: str, backfill: Backfill) -> None:
    """Refuse a backfill without new values for its columns.

    Raises:
        BackfillError: `values` is empty.
    """
    if backfill.values:
        return
    path = folder / f"{name}.py"
    keywords = (node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.keyword))
    line = next((keyword.lineno for keyword in keywords if keyword.arg == "values"), 1)
    parts = [] if backfill.where is None else list(visitors.iterate(backfill.where))
    named = (column for column in backfill.table.c if any(part is column for part in parts))
    columns = " and ".join(f"{backfill.table.name}.{column.name}" for column in named)
    raise BackfillError(
        f"Nothing was changed: the new values of {columns or f'the columns of {backfill.table.name}'} are missing. "
        f"Write the new values into {os.path.relpath(path)}:{line} (values), then run:\n{backfill_command(name)}"
    )


def is_complete(connection: Connection, backfill: Backfill, name: str) -> bool:
    """Whether no row is left to change.

    With `where`, the rows decide, so rows that were written after the end count. Without it, the recorded progress
    decides, or that the table is empty.

    Raises:
        BackfillError: row security may hide rows.
        NothingThereError: its table or a column does not exist.
    """
    table = qualified(connection.dialect, backfill.table.schema, backfill.table.name)
    if hides_rows(connection, table):
        raise BackfillError(
            f"Row security of the table {table} hides rows from this user, so the backfill {name} may be incomplete. "
            "Nothing was changed. Run the same command as a user with BYPASSRLS, or as the owner of the table without "
            "FORCE ROW LEVEL SECURITY."
        )
    if backfill.where is None and has_finished(connection, name):
        return True
    try:
        rows = exists(literal_column("1")).select_from(backfill.table).where(backfill.matching)
        return not connection.scalar(select(rows))
    except DBAPIError as error:
        if sqlstate(error) not in MISSING:
            raise
        raise NothingThereError(
            f"The backfill {name} needs a table or a column that the database does not have ({reason(error)}). If a "
            "pending revision adds this table or column, run that revision first. If a later revision has dropped this "
            "table or column, the backfill is no longer needed. Otherwise correct the file of the backfill."
        ) from error


def can_run(connection: Connection, backfill: Backfill) -> bool:
    """Whether the database has all that a backfill reads and writes.

    Args:
        connection: to the database; a failure ends its transaction.
    """
    written = [backfill.table.c[name] for name in (*backfill.key, *backfill.values)]
    values = [value if isinstance(value, ClauseElement) else literal(value) for value in backfill.values.values()]
    try:
        connection.execute(select(*written, *values).select_from(backfill.table).where(backfill.matching).limit(0))
    except SQLAlchemyError:
        return False
    return True


def refuse_incomplete(connection: Connection, script: Script, folder: Path) -> None:
    """Refuse a revision until the backfills that it needs are complete.

    Args:
        connection: to the database; in a transaction afterwards.

    Raises:
        BackfillError: a backfill is not complete, or can't be read.
    """
    try:
        backfills = {name: load_backfill(folder, name) for name in required_backfills(script)}
    except BackfillError as error:
        raise BackfillError(f"{os.path.relpath(script.path)} needs a backfill. {error}") from error
    missing = [name for name, backfill in backfills.items() if not is_complete(connection, backfill, name)]
    if missing:
        names = f"{'backfill' if len(missing) == 1 else 'backfills'} {', '.join(missing)}"
        commands = "\n".join(map(backfill_command, missing))
        raise BackfillError(
            f"{os.path.relpath(script.path)} needs the {names}, not yet complete. This revision was not run. Complete "
            f"the {names.partition(' ')[0]}, then run the same command again:\n{commands}"
        )


def has_finished(connection: Connection, name: str) -> bool:
    return has_table(connection, "backfill") and bool(connection.scalar(_FINISHED, {"name": name}))


def _place(path: Path, error: BaseException) -> str:
    """The file, with the line that failed where that is known."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
    return ":".join([os.path.relpath(path), *(str(line) for line in lines[-1:])])
