"""The types of columns in revision files: which are enums, and how a column refers to one without creating it."""

from typing import Any

from alembic.operations import MigrateOperation, ops
from sqlalchemy import ARRAY, Column, MetaData, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from safe_migrations.ddl.column_changes import DIALECT, plain_type


def enum_of(type_: TypeEngine[Any]) -> postgresql.ENUM | None:
    """The enum of a column's type, or of its array's elements; None for other types."""
    native = _native(type_)
    if isinstance(native, ARRAY):
        native = _native(native.item_type)
    return native if isinstance(native, postgresql.ENUM) else None


def managed_columns(operation: MigrateOperation) -> None:
    """Let columns refer to their enums without creating them, which one operation of its own does.

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
    if isinstance(native, ARRAY) and enum_of(native) is not None:
        return postgresql.ARRAY(_managed_type(native.item_type), dimensions=native.dimensions)
    return plain_type(type_)


def _native(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """Its form on PostgreSQL."""
    return plain_type(type_).dialect_impl(DIALECT)
