"""Operations for enums in revision files, where a type stands for itself, as one that several tables may use.

Columns name it by `postgresql.ENUM(…, create_type=False)`, so that no table creates it again.
See https://www.postgresql.org/docs/current/sql-altertype.html
"""

from collections.abc import Iterable, Sequence
from typing import Any

from alembic.operations import MigrateOperation, Operations
from sqlalchemy.dialects.postgresql import ENUM, CreateEnumType, DropEnumType

from safe_migrations.postgres.sql import ddl, qualified


class EnumOperation(MigrateOperation):
    """Something that is done to an enum."""

    def __init__(self, name: str, schema: str | None = None) -> None:
        self.name = name
        self.schema = schema

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """As `alembic check` tells it."""
        return (type(self).__name__.removesuffix("Op"), *vars(self).values())


@Operations.register_operation("create_enum")
class CreateEnumOp(EnumOperation):
    """CREATE TYPE … AS ENUM."""

    def __init__(self, name: str, values: Sequence[str], schema: str | None = None) -> None:
        super().__init__(name, schema)
        self.values = list(values)

    def reverse(self) -> "DropEnumOp":
        """Drop it."""
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


@Operations.register_operation("drop_enum")
class DropEnumOp(EnumOperation):
    """DROP TYPE."""

    def __init__(self, name: str, schema: str | None = None, values: Sequence[str] = ()) -> None:
        super().__init__(name, schema)
        self.values = list(values)

    def reverse(self) -> CreateEnumOp:
        """Create it again."""
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


@Operations.register_operation("add_enum_value")
class AddEnumValueOp(EnumOperation):
    """ALTER TYPE … ADD VALUE; PostgreSQL has no way to take one away, so there is no reverse."""

    def __init__(
        self, name: str, value: str, before: str | None = None, after: str | None = None, schema: str | None = None
    ) -> None:
        super().__init__(name, schema)
        self.value = value
        self.before = before
        self.after = after

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
        """Add a value; one that is there already is left at that. Only later revisions may use it.

        Args:
            operations: given by Alembic.
            name: the type's name.
            value: the new one, which comes last unless its place is told.
            before: the value that it stands before.
            after: the value that it stands after.
            schema: the type's.
        """
        operations.invoke(cls(name, value, before, after, schema))


@Operations.register_operation("replace_enum")
class ReplaceEnumOp(EnumOperation):
    """Another type of the same name, with other values."""

    def __init__(
        self,
        name: str,
        values: Sequence[str],
        columns: Iterable[tuple[str, str]],
        schema: str | None = None,
        replaced: Sequence[str] = (),
    ) -> None:
        super().__init__(name, schema)
        self.values = list(values)
        self.columns = list(columns)
        self.replaced = list(replaced)

    def reverse(self) -> "ReplaceEnumOp":
        """Give it the values that it had."""
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
        """Remove values of an enum, or change their order. It rewrites each table, which nobody can read meanwhile.

        Defaults, checks and indexes that name a value are made again. Where a removed value is in use, or something
        else depends on the type, it fails and changes nothing.

        Args:
            operations: given by Alembic.
            name: the type's name.
            values: all that it has from now on, in their order.
            columns: the table and the column of each that has this type, or is an array of it; the table as
                `schema.table` where it has a schema.
            schema: the type's.
        """
        operations.invoke(cls(name, values, columns, schema))


@Operations.implementation_for(CreateEnumOp)
def _create(operations: Operations, operation: CreateEnumOp) -> None:
    operations.execute(CreateEnumType(_type_of(operation, operation.values)))


@Operations.implementation_for(DropEnumOp)
def _drop(operations: Operations, operation: DropEnumOp) -> None:
    operations.execute(DropEnumType(_type_of(operation)))


def _type_of(operation: EnumOperation, values: Sequence[str] = ()) -> ENUM:
    return ENUM(*values, name=operation.name, schema=operation.schema, create_type=False)


@Operations.implementation_for(AddEnumValueOp)
def _add_value(operations: Operations, operation: AddEnumValueOp) -> None:
    statement = "ALTER TYPE %(type)s ADD VALUE IF NOT EXISTS %(value)s"
    neighbour = operation.before or operation.after
    if neighbour is not None:
        statement += f" {'BEFORE' if operation.before else 'AFTER'} %(neighbour)s"
    names = {"value": _literal(operation.value), "neighbour": _literal(neighbour or "")}
    operations.execute(ddl(statement, type=_name_of(operations, operation), **names))


# A default, a check or an index that names a value of the old type would not fit the new one: each is dropped and made
# again by its definition, in which both types have the same name. The server does it, so that --sql has it as well.
_REPLACE = """
DO $replace_enum$
DECLARE
    old_type CONSTANT regtype := %(name)s;
    old_array CONSTANT regtype := (SELECT typarray FROM pg_type WHERE oid = old_type);
    drops text[];
    changes text[];
    creates text[];
    statement text;
BEGIN
    WITH used AS (
        SELECT classid, objid FROM pg_depend
        WHERE refclassid = 'pg_type'::regclass AND refobjid IN (old_type, old_array)
    ), made (dropped, created) AS (
        SELECT format('ALTER TABLE ONLY %%s ALTER %%I DROP DEFAULT', adrelid::regclass, attname),
            format('ALTER TABLE ONLY %%s ALTER %%I SET DEFAULT %%s',
                adrelid::regclass, attname, pg_get_expr(adbin, adrelid))
        FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
        WHERE pg_attrdef.oid IN (SELECT objid FROM used WHERE classid = 'pg_attrdef'::regclass)
        UNION ALL
        SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', conrelid::regclass, conname),
            format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(oid))
        FROM pg_constraint
        WHERE coninhcount = 0 AND oid IN (SELECT objid FROM used WHERE classid = 'pg_constraint'::regclass)
            OR conindid IN (SELECT objid FROM used WHERE classid = 'pg_class'::regclass)
        UNION ALL
        SELECT format('DROP INDEX %%s', oid::regclass), pg_get_indexdef(oid)
        FROM pg_class
        WHERE relkind = 'i' AND oid IN (SELECT objid FROM used WHERE classid = 'pg_class'::regclass)
            AND oid NOT IN (SELECT conindid FROM pg_constraint)
    )
    SELECT array_agg(dropped), array_agg(created) INTO drops, creates FROM made;
    WITH made (changed) AS (
        SELECT format('ALTER TABLE %%s ', attrelid::regclass) || string_agg(
            format('ALTER %%1$I TYPE %%2$s USING %%1$I::text::%%2$s',
                attname, %(name)s || CASE atttypid WHEN old_array THEN '[]' ELSE '' END), ', ')
        FROM (VALUES %(columns)s) AS listed (relation, name) JOIN pg_attribute ON attrelid = relation AND attname = name
        WHERE atttypid IN (old_type, old_array)
        GROUP BY attrelid
    )
    SELECT array_agg(changed) INTO changes FROM made;
    FOREACH statement IN ARRAY coalesce(drops, '{}') LOOP EXECUTE statement; END LOOP;
    ALTER TYPE %(type)s RENAME TO safe_migrations_replaced;
    CREATE TYPE %(type)s AS ENUM (%(values)s);
    FOREACH statement IN ARRAY coalesce(changes, '{}') LOOP EXECUTE statement; END LOOP;
    EXECUTE format('DROP TYPE %%s', old_type);
    FOREACH statement IN ARRAY coalesce(creates, '{}') LOOP EXECUTE statement; END LOOP;
END
$replace_enum$
"""


@Operations.implementation_for(ReplaceEnumOp)
def _replace(operations: Operations, operation: ReplaceEnumOp) -> None:
    name, dialect = _name_of(operations, operation), operations.get_context().dialect
    columns = [
        f"({_literal(qualified(dialect, *table.split('.')))}::regclass, {_literal(column)})"
        for table, column in operation.columns
    ]
    names = {
        "type": name,
        "name": _literal(name),
        "values": ", ".join(_literal(value) for value in operation.values),
        "columns": ", ".join(columns or ["(NULL::regclass, NULL)"]),
    }
    operations.execute(ddl(_REPLACE, **names))


def _name_of(operations: Operations, operation: EnumOperation) -> str:
    return qualified(operations.get_context().dialect, operation.schema, operation.name)


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
