"""The types of columns in revision files.

A column refers to its enum or domain without creating it. A type that is not SQLAlchemy's own is written as SQL: a
revision that imported the type would fail as soon as the class moves, takes other arguments, or its package is removed.
"""

from typing import Any

from alembic.operations import MigrateOperation, ops
from sqlalchemy import ARRAY, Column, Connection, Enum, MetaData, String, Table, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import NullType, TypeEngine

from safe_migrations.autogenerate.sqlalchemy_internals import variants_of
from safe_migrations.ddl.column_changes import DIALECT, is_foreign, plain_type
from safe_migrations.ddl.types import SQLType
from safe_migrations.postgres.sql import qualified

_TYPE = text("""
    SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = to_regclass(:table) AND attname = :column
""")


def enum_of(type_: TypeEngine[Any]) -> postgresql.ENUM | None:
    """The enum of a column's type, or of its array's elements; None for other types."""
    named = named_type_of(type_)
    return named if isinstance(named, postgresql.ENUM) else None


def named_type_of(type_: TypeEngine[Any]) -> postgresql.ENUM | postgresql.DOMAIN | None:
    """The enum or the domain of a column's type, or of its array's elements; None for other types."""
    native = _native(type_)
    if isinstance(native, ARRAY):
        native = _native(native.item_type)
    return native if isinstance(native, postgresql.ENUM | postgresql.DOMAIN) else None


def name_unknown_types(operation: MigrateOperation, connection: Connection) -> None:
    """Let an operation restore a column whose type SQLAlchemy does not know, as PostgreSQL names this type.

    Args:
        operation: whose table exists in the database.
    """

    def known(type_: TypeEngine[Any], operation: Any, column: str) -> TypeEngine[Any]:
        table = qualified(connection.dialect, operation.schema, operation.table_name)
        is_unknown = isinstance(type_, NullType)
        sql = connection.scalar(_TYPE, {"table": table, "column": column}) if is_unknown else None
        return SQLType(sql) if sql else type_

    match operation:
        case ops.CreateTableOp():
            for column in (item for item in operation.columns if isinstance(item, Column)):
                column.type = known(column.type, operation, column.name)
        case ops.AddColumnOp(column=column):
            column.type = known(column.type, operation, column.name)
        case ops.AlterColumnOp(column_name=name):
            operation.existing_type = operation.existing_type and known(operation.existing_type, operation, name)
            operation.modify_type = operation.modify_type and known(operation.modify_type, operation, name)


def without_check(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type of a column in a revision that adds its CHECK by an operation of its own, not by the type."""
    plain = plain_type(type_)
    is_text = isinstance(plain, Enum) and plain.create_constraint and enum_of(plain) is None
    return String(plain.length, plain.collation) if isinstance(plain, Enum) and is_text else plain


def managed_columns(operation: MigrateOperation) -> None:
    """Let columns refer to their enums and domains without creating them, which one operation of its own does.

    The models' columns are not changed: the operation, and each operation that it contains, gets copies.
    """
    match operation:
        case ops.OpContainer():
            for contained in operation.ops:
                managed_columns(contained)
        case ops.CreateTableOp():
            operation.columns = [_managed(item) if isinstance(item, Column) else item for item in operation.columns]
        case ops.AddColumnOp():
            operation.column = _managed(operation.column)
        case ops.AlterColumnOp():
            operation.existing_type = operation.existing_type and _managed_type(operation.existing_type)
            operation.modify_type = operation.modify_type and _managed_type(operation.modify_type)


def _managed(column: Column[Any]) -> Column[Any]:
    type_ = _managed_type(column.type)
    if type_ is column.type:
        return column
    table = column.table if column.table is not None else Table("_", MetaData(), column)
    copy = table.to_metadata(MetaData()).columns[column.key]
    copy.type = type_
    return copy


def _managed_type(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    native = _native(type_)
    if isinstance(native, postgresql.ENUM):
        return postgresql.ENUM(*native.enums, name=native.name, schema=native.schema, create_type=False)
    if isinstance(native, postgresql.DOMAIN):
        base = _managed_type(native.data_type)
        return postgresql.DOMAIN(str(native.name), base, schema=native.schema, create_type=False)
    plain = plain_type(type_)
    if any(map(is_foreign, (plain, native, *variants_of(plain)))):
        return SQLType(plain.compile(dialect=DIALECT))
    if isinstance(native, ARRAY):
        item = _managed_type(native.item_type)
        if isinstance(item, SQLType):
            return SQLType(plain.compile(dialect=DIALECT))
        if item is not native.item_type:
            return postgresql.ARRAY(item, dimensions=native.dimensions)
    return plain


def _native(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """Its form on PostgreSQL."""
    return plain_type(type_).dialect_impl(DIALECT)
