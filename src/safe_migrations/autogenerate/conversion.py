"""The effect of a new type on the rows of a column: its cost, as PostgreSQL reports it, and the lost values."""

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, replace
from math import inf
from secrets import token_hex
from typing import Any

from alembic.operations import MigrateOperation, Operations, ops
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

from safe_migrations.autogenerate.column_types import enum_of
from safe_migrations.autogenerate.rendering import Comment
from safe_migrations.ddl.column_changes import MICROSECONDS, TypeForm, keeps_rows
from safe_migrations.postgres.rollback import rolled_back
from safe_migrations.postgres.sql import ddl, qualified, read_sql

_SQL = read_sql(__package__, "conversion.sql")
_AT_UTC = "SET LOCAL TimeZone = 'UTC'"

_STRINGS = ("VARCHAR", "TEXT", "CITEXT", "CHAR")
_FLOATS = ("REAL", "FLOAT", "DOUBLE PRECISION")
_BITS = {"SMALLINT": 15, "REAL": 24, "INTEGER": 31, "DOUBLE PRECISION": 53, "FLOAT": 53, "BIGINT": 63}
_WRITTEN_EXACTLY = {"BOOLEAN", "NUMERIC", "UUID", "DATE", "TIMESTAMP", "TIME", "JSON", "JSONB", "INET", "CIDR", *_BITS}


@dataclass(frozen=True)
class Cost:
    """What PostgreSQL does while it holds ACCESS EXCLUSIVE.

    Attributes:
        rewrites: whether it rewrites the table with all its indexes.
        indexes: the indexes that it rebuilds otherwise.
        scans: whether it reads all rows to check them again.
    """

    rewrites: bool = True
    indexes: tuple[str, ...] = ()
    scans: bool = False

    def of(self, table: str) -> str:
        """The cost as a verb with its object; empty where there is none."""
        if self.rewrites:
            return f"rewrites {table}"
        rebuilds = f"rebuilds {', '.join(self.indexes)}" if self.indexes else ""
        checks = f"checks all rows of {table} again" if self.scans else ""
        return " and ".join(filter(None, (rebuilds, checks)))


def cost_of(connection: Connection, operations: Iterable[MigrateOperation]) -> Cost:
    """Ask PostgreSQL, on an empty copy of the table that is rolled back; where that fails, the cost is a rewrite.

    Args:
        operations: the change, which alters one column.
    """
    changes = [copy(operation) for operation in operations]
    columns = [change for change in changes if isinstance(change, ops.AlterColumnOp)]
    schema, name = columns[0].schema, f"copy_{token_hex(8)}"
    table, scratch = (qualified(connection.dialect, schema, of) for of in (columns[0].table_name, name))
    for column in columns:
        column.table_name = name
    run = Operations(MigrationContext.configure(connection))
    try:
        with rolled_back(connection):
            connection.execute(ddl("CREATE TABLE %(copy)s (LIKE %(table)s INCLUDING ALL)", copy=scratch, table=table))
            before, scans = _files(connection, scratch), connection.scalar(_SQL["scans"], {"table": scratch})
            for change in changes:
                run.invoke(change)
            rebuilt = [before[file] for file in before.keys() - _files(connection, scratch).keys()]
            scans = connection.scalar(_SQL["scans"], {"table": scratch}) - scans - len(rebuilt)
    except DBAPIError:
        return Cost()
    if None in rebuilt:
        return Cost()
    indexes = connection.scalars(_SQL["indexes"], {"table": table, "definitions": rebuilt})
    return Cost(False, tuple(indexes), scans > 0)


def _files(connection: Connection, table: str) -> dict[int, str | None]:
    """The definition of each index by its file, and None by that of the table."""
    return {row.file: row.definition for row in connection.execute(_SQL["files"], {"table": table})}


def at_utc(before: TypeEngine[Any], after: TypeEngine[Any]) -> tuple[MigrateOperation, ...]:
    """The setting without which a conversion from or to a time zone would depend on the session's time zone."""
    zones = [TypeForm.of(type_).with_zone for type_ in (before, after)]
    if all(zones) or not any(zones):
        return ()
    return Comment("Times without a time zone are UTC, not of the session's time zone."), ops.ExecuteSQLOp(_AT_UTC)


def lost(before: TypeEngine[Any], after: TypeEngine[Any]) -> str:
    """The part of a value that the new type does not keep; empty if none. An unknown effect counts as a loss."""
    old, new = TypeForm.of(before), TypeForm.of(after)
    if keeps_rows(before, after) or (old.name and replace(old, rest="") == replace(new, rest="")):
        return ""  # a collation changes no value
    if enum_of(after) is not None or (enum_of(before) is not None and new.name in _STRINGS):
        return ""  # what is no value of the enum fails
    if old.is_array != new.is_array:
        return "" if new.name in _STRINGS else "all values but one"
    for lost_between in (_of_numbers, _of_times, _of_texts):
        if (what := lost_between(old, new)) is not None:
            return what
    return "what the new type can't hold"


def _of_numbers(old: TypeForm, new: TypeForm) -> str | None:
    """A number that is too large for the new type fails, so only digits at its end can be lost."""
    if {old.name, new.name} == {"BOOLEAN", "INTEGER"}:
        return "which number it was" if new.name == "BOOLEAN" else ""
    if not {old.name, new.name} <= {"NUMERIC", *_BITS}:
        return None
    if _decimals(old) > _decimals(new):
        return "digits after the decimal point"
    fits = new.name not in _FLOATS or _bits(old) <= _bits(new)
    return "" if fits and (old.name not in _FLOATS or new.name in _FLOATS) else "digits"


def _decimals(form: TypeForm) -> float:
    if form.name == "NUMERIC":
        return (*form.arguments, 0)[1] if form.arguments else inf
    return inf if form.name in _FLOATS else 0


def _bits(form: TypeForm) -> float:
    return 24 if form.name == "FLOAT" and form.arguments and form.arguments[0] <= 24 else _BITS.get(form.name, inf)


def _of_times(old: TypeForm, new: TypeForm) -> str | None:
    match old.name, new.name:
        case ("TIMESTAMP", "DATE"):
            return "the time of day"
        case ("TIMESTAMP", "TIME"):
            return "the date"
        case ("DATE", "TIMESTAMP"):
            return ""
        case ("TIMESTAMP", "TIMESTAMP") | ("TIME", "TIME"):
            if (*old.arguments, MICROSECONDS)[0] > (*new.arguments, MICROSECONDS)[0]:
                return "fractions of a second"
            return "the time zone" if old.name == "TIME" and old.with_zone and not new.with_zone else ""
    return None


def _of_texts(old: TypeForm, new: TypeForm) -> str | None:
    if new.name == "CHAR" or (old.name in _STRINGS and new.name in _STRINGS):
        return "spaces at the end" if "CHAR" in (old.name, new.name) or new.arguments else ""
    if new.name in _STRINGS:
        return "" if old.name in _WRITTEN_EXACTLY else None
    if old.name in _STRINGS:
        return "" if new.name == "JSON" else "how a value was written, such as spaces and leading zeros"
    if {old.name, new.name} == {"JSON", "JSONB"}:
        return "spaces, repeated keys and the order of keys" if new.name == "JSONB" else ""
    return None
