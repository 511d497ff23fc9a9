"""What a downgrade would destroy, found before it runs."""

import io
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alembic.operations import Operations
from alembic.runtime.migration import RevisionStep
from sqlalchemy import Connection, Select, column, func, literal_column, select, text

from safe_migrations.postgres.catalog import find_table, own_relations
from safe_migrations.prompt import confirm
from safe_migrations.upgrade.offline import offline_context

COUNTED = 1_000_000  # rows; to count more takes too long to wait for

_NAME = r'(?:"(?:[^"]|"")+"|[\w$]+)'
_QUALIFIED = rf"{_NAME}(?:\.{_NAME})?"
_TABLES = re.compile(
    rf"\b(?:DROP\s+TABLE|TRUNCATE(?:\s+TABLE)?|DELETE\s+FROM)\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?"
    rf"({_QUALIFIED}(?:\s*,\s*{_QUALIFIED})*)",
    re.IGNORECASE,
)
_ALTER = re.compile(rf"\bALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?({_QUALIFIED})\s+([^;]*)", re.IGNORECASE)
_COLUMNS = re.compile(
    rf"\bDROP\s+(?!CONSTRAINT\b|DEFAULT\b|NOT\b|IDENTITY\b|EXPRESSION\b)(?:COLUMN\s+)?(?:IF\s+EXISTS\s+)?({_NAME})",
    re.IGNORECASE,
)
# Nobody knows what the expression makes of the values, so the column counts as dropped.
_CONVERTED = re.compile(rf"\bALTER\s+(?:COLUMN\s+)?({_NAME})\s+(?:SET\s+DATA\s+)?TYPE\b.*\bUSING\b", re.IGNORECASE)
# What drops more than it names, or is a program.
_UNKNOWN = re.compile(
    r"\bDROP\s+OWNED\b|\bDO\s+\$|\b(?:DROP\s+(?:SCHEMA|TYPE|DOMAIN|EXTENSION)|TRUNCATE)\b[^;]*\bCASCADE\b",
    re.IGNORECASE,
)
_CREATE = re.compile(rf"\bCREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?({_QUALIFIED})", re.IGNORECASE)
_ADDED = re.compile(rf"\bADD\s+COLUMN\s+(?:IF\s+NOT\s+EXISTS\s+)?({_NAME})", re.IGNORECASE)
_FIND_COLUMN = text("""
    SELECT attname FROM pg_attribute
    WHERE attrelid = to_regclass(:table) AND attname = (parse_ident(:column))[1] AND NOT attisdropped
""")


@dataclass(frozen=True)
class DataLoss:
    """A table or a column that a downgrade drops or empties.

    Attributes:
        name: of the table, or of the column with its table, as SQL has it.
        rows: how many have a value there; None for more than `COUNTED`.
    """

    name: str
    rows: int | None

    def __str__(self) -> str:
        if self.rows is None:
            return f"{self.name} (more than {COUNTED:,} rows)"
        return f"{self.name} ({self.rows:,} {'row' if self.rows == 1 else 'rows'})"


def confirm_data_loss(
    connection: Connection, steps: Sequence[RevisionStep], destination: str, options: Mapping[str, Any], *, yes: bool
) -> None:
    """Show what a downgrade destroys, and ask if rows are lost.

    Args:
        connection: to the database, in AUTOCOMMIT.
        steps: the downgrade's, in order.
        destination: of the downgrade, as it was given.
        options: what `context.configure` takes, for the version table's name.
        yes: whether the user has already agreed.

    Raises:
        NotConfirmedError: the user did not agree.
    """
    losses = find_data_loss(connection, steps)
    if losses is None:
        if not _has_rows(connection, options):
            return
        warning = "It is not known beforehand what this downgrade destroys, and the database has rows."
    else:
        lost = [str(loss) for loss in losses if loss.rows != 0]
        if not lost:
            return
        warning = f"This downgrade destroys {', '.join(lost)}."
    command = shlex.join(["alembic", "-x", "yes", "downgrade", destination])
    confirm(warning, "Downgrade", yes=yes, how=f"-x yes, with a backup at hand:\n{command}")


def find_data_loss(connection: Connection, steps: Sequence[RevisionStep]) -> list[DataLoss] | None:
    """The tables and columns that a downgrade drops or empties, with their rows.

    Args:
        connection: to the database, in AUTOCOMMIT.
        steps: the downgrade's, in order.

    Returns:
        None where this is not known: a revision reads the database to decide, runs a program, drops more than it names,
        or renames what a later one drops.
    """
    targets: dict[tuple[str, str | None], None] = {}
    created: set[tuple[str, str | None]] = set()
    for step in steps:
        try:
            sql = _sql(step)
        except Exception:  # whatever a revision expected of a database
            return None
        if _UNKNOWN.search(sql):
            return None
        created |= _created(sql)
        targets |= dict.fromkeys(_dropped(sql))
    losses = []
    for name, column_name in targets:
        loss = _count(connection, name, column_name)
        if loss is not None:
            losses.append(loss)
        elif not created & {(name, column_name), (name, None)}:
            return None
    return losses


def _sql(step: RevisionStep) -> str:
    """What a step would run, as `--sql` shows it."""
    output = io.StringIO()
    with Operations.context(offline_context(output)):
        step.migration_fn()
    return output.getvalue()


def _created(sql: str) -> set[tuple[str, str | None]]:
    tables: set[tuple[str, str | None]] = {(name, None) for name in _CREATE.findall(sql)}
    return tables | {(name, added) for name, rest in _ALTER.findall(sql) for added in _ADDED.findall(rest)}


def _dropped(sql: str) -> list[tuple[str, str | None]]:
    tables: list[tuple[str, str | None]] = [
        (name, None) for names in _TABLES.findall(sql) for name in re.findall(_QUALIFIED, names)
    ]
    return tables + [
        (name, lost)
        for name, rest in _ALTER.findall(sql)
        for lost in [*_COLUMNS.findall(rest), *_CONVERTED.findall(rest)]
    ]


def _count(connection: Connection, name: str, column_name: str | None = None) -> DataLoss | None:
    table = find_table(connection, name)
    if table is None:
        return None
    rows: Select[Any] = select(literal_column("1")).select_from(table)
    if column_name is not None:
        catalog_name = connection.scalar(_FIND_COLUMN, {"table": name, "column": column_name})
        if catalog_name is None:
            return None
        rows = rows.where(column(catalog_name).is_not(None))
    counted = connection.scalar(select(func.count()).select_from(rows.limit(COUNTED + 1).subquery())) or 0
    label = f"the column {name}.{column_name}" if column_name else f"the table {name}"
    return DataLoss(label, counted if counted <= COUNTED else None)


def _has_rows(connection: Connection, options: Mapping[str, Any]) -> bool:
    """Whether any table but Alembic's own has rows."""
    counts = (_count(connection, name) for name in own_relations(connection, options))
    return any(loss is not None and loss.rows != 0 for loss in counts)
