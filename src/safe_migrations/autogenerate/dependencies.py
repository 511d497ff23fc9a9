"""The dependencies of operations across tables, which decide the order of the tables' revisions."""

from collections.abc import Iterable, Iterator
from typing import Any

from alembic.operations import MigrateOperation, ops
from sqlalchemy import Column

from safe_migrations.autogenerate.column_types import named_type_of
from safe_migrations.autogenerate.comparison import foreign_keys, referred, table_of
from safe_migrations.ddl.constraints import CreateUniqueConstraintUsingIndexOp
from safe_migrations.ddl.domains import CreateDomainOp, DropDomainOp
from safe_migrations.ddl.enums import AddEnumValueOp, CreateEnumOp, DropEnumOp, ReplaceEnumOp
from safe_migrations.ddl.indexes import CreateIndexConcurrentlyOp, DropIndexConcurrentlyOp
from safe_migrations.ddl.schemas import CreateSchemaOp
from safe_migrations.postgres.sql import dotted

Name = tuple[str, ...]  # such as ("table", "item"), or ("no reference", "item") for what is dropped

_TABLE, _COLUMN, _UNIQUE, _TYPE, _SCHEMA = "table", "column", "unique", "type", "schema"
_NO_REFERENCE, _NO_COLUMN = "no reference", "no column"  # to a table, of a type


def provided_by(operations: Iterable[MigrateOperation]) -> set[Name]:
    """What operations create or free."""
    return {name for operation in operations for name in _provided(operation)}


def required_by(operations: Iterable[MigrateOperation]) -> set[Name]:
    """What operations need: objects that must exist, or objects that must no longer be used."""
    return {name for operation in operations for name in _required(operation)}


def _provided(operation: Any) -> Iterator[Name]:
    match operation:
        case ops.CreateTableOp():
            yield _TABLE, table_of(operation)
        case ops.AddColumnOp():
            yield _COLUMN, table_of(operation), operation.column.name
        case CreateUniqueConstraintUsingIndexOp() | ops.CreateUniqueConstraintOp() | ops.CreateIndexOp(unique=True):
            yield _UNIQUE, table_of(operation)
        case CreateIndexConcurrentlyOp() if operation.options.get("unique"):
            yield _UNIQUE, table_of(operation)
        case CreateEnumOp() | AddEnumValueOp() | CreateDomainOp():
            yield _TYPE, operation.name
        case CreateSchemaOp():
            yield _SCHEMA, operation.name
        case ops.DropConstraintOp(constraint_type="foreignkey"):
            yield _NO_REFERENCE, _referent(operation.reverse())
        case ops.DropTableOp():
            yield from ((_NO_REFERENCE, referred(key)) for key in foreign_keys(operation))
            yield from _types(_NO_COLUMN, operation.to_table().columns)
        case ops.DropColumnOp():
            yield from _types(_NO_COLUMN, [operation.to_column()])
        case ops.AlterColumnOp() if operation.existing_type is not None:
            yield from _types(_NO_COLUMN, [Column("_", operation.existing_type)])


def _required(operation: Any) -> Iterator[Name]:
    if schema := getattr(operation, "schema", None):
        yield _SCHEMA, schema
    match operation:
        case ops.CreateTableOp():
            for key in foreign_keys(operation):
                yield from _referenced(referred(key), [element.column.name for element in key.elements])
            yield from _types(_TYPE, operation.to_table().columns)
        case ops.AddColumnOp():
            yield from _types(_TYPE, [operation.column])
        case ops.AlterColumnOp() if operation.modify_type is not None:
            yield from _types(_TYPE, [Column("_", operation.modify_type)])
        case ops.CreateForeignKeyOp():
            yield from _referenced(_referent(operation), operation.remote_cols)
        case ops.DropTableOp() | ops.DropColumnOp() | ops.DropConstraintOp():
            yield _NO_REFERENCE, table_of(operation)
        case ops.DropIndexOp() | DropIndexConcurrentlyOp():
            yield _NO_REFERENCE, table_of(operation)
        case DropEnumOp() | DropDomainOp() | ReplaceEnumOp():
            yield _NO_COLUMN, operation.name


def _referenced(table: str, columns: Iterable[str]) -> Iterator[Name]:
    """What a foreign key needs."""
    yield from ((_TABLE, table), (_UNIQUE, table))
    yield from ((_COLUMN, table, column) for column in columns)


def _referent(key: Any) -> str:
    return dotted(key.kw.get("referent_schema"), str(key.referent_table))


def _types(what: str, columns: Iterable[Column[Any]]) -> Iterator[Name]:
    named = (named_type_of(column.type) for column in columns)
    return ((what, str(type_.name)) for type_ in named if type_ is not None)
