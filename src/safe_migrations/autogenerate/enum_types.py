"""Which column types are enums, and a form of them in a revision that creates no type by itself."""

from typing import Any

from alembic.operations import MigrateOperation, ops
from sqlalchemy import ARRAY, Column, MetaData
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from safe_migrations.ddl.column_changes import DIALECT, plain_type


def enum_of(type_: TypeEngine[Any]) -> postgresql.ENUM | None:
    """The enum of a column's type, or of what its array holds; None for other types.

    Args:
        type_: of the models, or of the database.
    """
    native = _native(type_)
    if isinstance(native, ARRAY):
        native = _native(native.item_type)
    return native if isinstance(native, postgresql.ENUM) else None


def managed_columns(operation: MigrateOperation) -> None:
    """Let columns name their enums without creating them, which is done once, by an operation of its own.

    The models' columns stay as they are: the operation gets copies.

    Args:
        operation: of autogenerate; a container stands for all that it holds.
    """
    match operation:
        case ops.OpContainer():
            for each in operation.ops:
                managed_columns(each)
        case ops.CreateTableOp():
            operation.columns = [_managed(each) if isinstance(each, Column) else each for each in operation.columns]
        case ops.AddColumnOp():
            operation.column = _managed(operation.column)
        case ops.AlterColumnOp():
            operation.existing_type = operation.existing_type and _managed_type(operation.existing_type)
            operation.modify_type = operation.modify_type and _managed_type(operation.modify_type)
        case ops.DropTableOp() | ops.DropColumnOp() if operation._reverse is not None:
            managed_columns(operation._reverse)


def _managed(column: Column[Any]) -> Column[Any]:
    type_ = _managed_type(column.type)
    if type_ is column.type:
        return column
    copy = column._copy(_to_metadata=MetaData())  # else the type's copy would be registered with the models
    copy.type = type_
    return copy._copy()  # the first copy's table would still create the type that the column had


def _managed_type(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    native = _native(type_)
    if isinstance(native, postgresql.ENUM):
        return postgresql.ENUM(*native.enums, name=native.name, schema=native.schema, create_type=False)
    if isinstance(native, ARRAY) and enum_of(native) is not None:
        return postgresql.ARRAY(_managed_type(native.item_type), dimensions=native.dimensions)
    return plain_type(type_)


def _native(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """What it is on PostgreSQL."""
    return plain_type(type_).dialect_impl(DIALECT)
