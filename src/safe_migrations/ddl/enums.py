"""Operations for enums in revision files, as types of their own, which several tables may use.

Columns refer to the type with `postgresql.ENUM(…, create_type=False)`, so that no table creates it again.
See https://www.postgresql.org/docs/current/sql-altertype.html
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from alembic.operations import MigrateOperation, Operations
from sqlalchemy.dialects.postgresql import ENUM, CreateEnumType, DropEnumType

from safe_migrations.ddl.registration import register
from safe_migrations.postgres.sql import ddl, literal_sql, qualified, read_sql

_SQL = read_sql(__package__, "enums.sql")


class EnumOperation(MigrateOperation):
    """A change of an enum."""

    name: str
    schema: str | None

    def qualified_name(self, operations: Operations) -> str:
        """The type's name in SQL."""
        return qualified(operations.get_context().dialect, self.schema, self.name)


@register
@dataclass(eq=False)
class CreateEnumOp(EnumOperation):
    """CREATE TYPE … AS ENUM."""

    name: str
    values: Sequence[str]
    schema: str | None = None

    def reverse(self) -> "DropEnumOp":
        """Drop the enum."""
        return DropEnumOp(self.name, self.schema, self.values)

    @classmethod
    def create_enum(
        cls, operations: Operations, name: str, values: Sequence[str], *, schema: str | None = None
    ) -> None:
        """Create an enum, before the tables that use it.

        Args:
            operations: given by Alembic.
            name: the type's name.
            values: in their order.
            schema: the type's.
        """
        operations.invoke(cls(name, values, schema))

    def run(self, operations: Operations) -> None:
        """Create the type."""
        enum = ENUM(*self.values, name=self.name, schema=self.schema, create_type=False)
        operations.execute(CreateEnumType(enum))


@register
@dataclass(eq=False)
class DropEnumOp(EnumOperation):
    """DROP TYPE."""

    name: str
    schema: str | None = None
    values: Sequence[str] = ()

    def reverse(self) -> CreateEnumOp:
        """Create the enum again."""
        return CreateEnumOp(self.name, self.values, self.schema)

    @classmethod
    def drop_enum(cls, operations: Operations, name: str, *, schema: str | None = None) -> None:
        """Drop an enum, after the columns that use it.

        Args:
            operations: given by Alembic.
            name: the type's name.
            schema: the type's.
        """
        operations.invoke(cls(name, schema))

    def run(self, operations: Operations) -> None:
        """Drop the type."""
        operations.execute(DropEnumType(ENUM(name=self.name, schema=self.schema, create_type=False)))


@register
@dataclass(eq=False)
class AddEnumValueOp(EnumOperation):
    """ALTER TYPE … ADD VALUE; there is no reverse, because PostgreSQL can't remove a value."""

    name: str
    value: str
    before: str | None = None
    after: str | None = None
    schema: str | None = None

    @classmethod
    def add_enum_value(
        cls,
        operations: Operations,
        name: str,
        value: str,
        *,
        before: str | None = None,
        after: str | None = None,
        schema: str | None = None,
    ) -> None:
        """Add a value, if the enum does not have it. Only later revisions can use it.

        Args:
            operations: given by Alembic.
            name: the type's name.
            value: the new value, which comes last by default.
            before: the value that follows it.
            after: the value that precedes it.
            schema: the type's.
        """
        operations.invoke(cls(name, value, before, after, schema))

    def run(self, operations: Operations) -> None:
        """Add the value."""
        statement = "ALTER TYPE %(type)s ADD VALUE IF NOT EXISTS %(value)s"
        neighbour = self.before or self.after
        if neighbour is not None:
            statement += f" {'BEFORE' if self.before else 'AFTER'} %(neighbour)s"
        dialect = operations.get_context().dialect
        names = {"value": literal_sql(dialect, self.value), "neighbour": literal_sql(dialect, neighbour or "")}
        operations.execute(ddl(statement, type=self.qualified_name(operations), **names))


@register
@dataclass(eq=False)
class ReplaceEnumOp(EnumOperation):
    """Another type of the same name, with other values."""

    name: str
    values: Sequence[str]
    columns: Iterable[tuple[str, str]]
    schema: str | None = None
    replaced: Sequence[str] = ()

    def reverse(self) -> "ReplaceEnumOp":
        """Restore the previous values."""
        return ReplaceEnumOp(self.name, self.replaced, self.columns, self.schema, self.values)

    @classmethod
    def replace_enum(
        cls,
        operations: Operations,
        name: str,
        values: Sequence[str],
        *,
        columns: Iterable[tuple[str, str]],
        schema: str | None = None,
    ) -> None:
        """Remove values of an enum, or change their order. This rewrites each table, blocking reads and writes.

        Defaults, checks and indexes that name a value are created again. If rows have a removed value, or something
        else depends on the type, this fails and changes nothing.

        Args:
            operations: given by Alembic.
            name: the type's name.
            values: all new values, in their order.
            columns: the table and the column of each column that has this type, or an array of it; the table as
                `schema.table` if it has a schema, and a name with a dot in double quotes.
            schema: the type's.
        """
        operations.invoke(cls(name, values, columns, schema))

    def run(self, operations: Operations) -> None:
        """Replace the type, and convert the columns."""
        name, dialect = self.qualified_name(operations), operations.get_context().dialect
        quoted = partial(literal_sql, dialect)
        columns = [
            f"({quoted(qualified(dialect, *_parts(table)))}::regclass, {quoted(column)})"
            for table, column in self.columns
        ]
        names = {
            "type": name,
            "name": quoted(name),
            "values": ", ".join(map(quoted, self.values)),
            "columns": ", ".join(columns or ["(NULL::regclass, NULL)"]),
            "tag": "replace_enum",
        }
        while any(names["tag"] in value for value in self.values):
            names["tag"] += "_"
        operations.execute(ddl(_SQL["replace_enum"].text, **names))


def _parts(table: str) -> list[str]:
    """Of a name in which double quotes are necessary around a dot only."""
    parts = re.findall(r'"(?:[^"]|"")+"|[^.]+', table)
    return [part[1:-1].replace('""', '"') if part.startswith('"') else part for part in parts]
