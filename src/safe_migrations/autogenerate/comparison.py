"""What autogenerate has found, seen as a whole, because one difference often explains another."""

from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from alembic.operations import MigrateOperation, ops
from sqlalchemy import Column, Connection, Table
from sqlalchemy.types import NullType

from safe_migrations.autogenerate.backfill_files import BackfillFile
from safe_migrations.ddl.column_changes import DIALECT, keeps_rows
from safe_migrations.upgrade.phases import CONTRACT, EXPAND


class Differences:
    """The differences between models and database.

    Attributes:
        operations: what Alembic would do, one by one, in an order that does not depend on chance.
        connection: to the database.
        tables: of the models, by their keys in the metadata.
        created: the tables that come, by their names.
        dropped: those that go.
        added: the columns that come, by the names of their tables and their own.
        removed: those that go.
        converted: the columns whose rows another type writes anew.
        replaced: what drops an index or a constraint, where another one of the same name comes.
        backfills: what the safe forms need, as far as they have been asked for.
    """

    def __init__(
        self, operations: Iterable[MigrateOperation], connection: Connection, tables: Mapping[str, Table]
    ) -> None:
        """Look at all of them.

        Args:
            operations: what Alembic has found.
            connection: to the database.
            tables: of the models, by their keys in the metadata.
        """
        self.operations = _in_order(operations)
        self.connection = connection
        self.tables = tables
        self.created = {table_of(each): each for each in self.of(ops.CreateTableOp)}
        self.dropped = {table_of(each): each for each in self.of(ops.DropTableOp)}
        self.added = {(table_of(each), each.column.name): each.column for each in self.of(ops.AddColumnOp)}
        self.removed = {(table_of(each), each.column_name): each.to_column() for each in self.of(ops.DropColumnOp)}
        types = {(table_of(each), each.column_name): each for each in self.of(ops.AlterColumnOp)}
        self.converted = {
            key
            for key, each in types.items()
            if each.modify_type is not None and not keeps_rows(each.existing_type, each.modify_type)
        }
        new_names = {name_of(each) for each in self.of(ops.CreateIndexOp, ops.AddConstraintOp)}
        drops = {name_of(each): each for each in self.of(ops.DropIndexOp, ops.DropConstraintOp)}
        self.replaced = {name: drops[name] for name in drops.keys() & new_names}
        self.backfills: list[BackfillFile] = []

    def of(self, *kinds: type[Any]) -> list[Any]:
        """Those of these kinds."""
        return [each for each in self.operations if isinstance(each, kinds)]

    def related(self, name: str) -> str:
        """A name for the new tables that foreign keys connect with this one: they are one change."""
        related = {name}
        while (
            more := {
                other
                for table, operation in self.created.items()
                for other in (table, *referred(operation.to_table()))
                if related & {table, *referred(operation.to_table())} and other in self.created
            }
            - related
        ):
            related |= more
        return min(related)

    def candidates(self, table: str, column: Column[Any]) -> list[str]:
        """The columns of its table and type that go: it may be one of them under another name."""
        text = type_text(column)
        return [name for (of, name), each in self.removed.items() if of == table and type_text(each) == text]

    def alike(self, table: str, column: Column[Any]) -> str | None:
        """The column that this one may be another name for: the only one of its type that goes, as it comes."""

        text = type_text(column)
        coming = [name for (of, name), each in self.added.items() if of == table and type_text(each) == text]
        going = self.candidates(table, column)
        return going[0] if len(going) == len(coming) == 1 else None

    def relaxing(self, operation: MigrateOperation, columns: Any) -> str:
        """The phase in which a rule goes: first, because the new code may break it, unless its column goes as well."""
        going = any((table_of(operation), column) in self.removed for column in columns)
        return CONTRACT if going else EXPAND

    def building(self, operation: MigrateOperation, columns: Any) -> str:
        """The phase in which an index is built: first, as the new code may need it, unless a type changes before."""
        converted = any((table_of(operation), column.name) in self.converted for column in columns)
        return CONTRACT if converted else EXPAND

    def model(self, operation: ops.AlterColumnOp) -> Table:
        """The model's table."""
        default = self.connection.dialect.default_schema_name
        schema, name = operation.schema, operation.table_name
        tables = {(table.schema, table.name): table for table in self.tables.values()}
        return tables[(schema, name) if (schema, name) in tables else (schema or default, name)]


def _in_order(operations: Iterable[MigrateOperation]) -> list[MigrateOperation]:
    """One by one; tables are dropped before those that they refer to, and the rest does not depend on chance."""
    flat = list(_flat(operations))
    dropped = {table_of(each): each for each in flat if isinstance(each, ops.DropTableOp)}
    before: dict[str, set[str]] = {name: set() for name in sorted(dropped)}
    for name, operation in dropped.items():
        for other in referred(operation.to_table()) & dropped.keys() - {name}:
            before[other].add(name)
    try:
        names = list(TopologicalSorter(before).static_order())
    except CycleError:
        names = list(before)
    columns = sorted((each for each in flat if isinstance(each, ops.DropColumnOp)), key=lambda each: each.column_name)
    others = [each for each in flat if not isinstance(each, (ops.DropTableOp, ops.DropColumnOp))]
    return [*others, *columns, *(dropped[name] for name in names)]


def _flat(operations: Iterable[MigrateOperation]) -> Iterator[MigrateOperation]:
    for operation in operations:
        if isinstance(operation, ops.OpContainer):
            yield from _flat(operation.ops)
        else:
            yield operation


def table_of(operation: Any) -> str:
    """The table that an operation is about, as the metadata's key has it."""
    name = getattr(operation, "source_table", None) or operation.table_name
    schema = getattr(operation, "schema", None) or getattr(operation, "kw", {}).get("source_schema")
    return f"{schema}.{name}" if schema else str(name)


def names_of(operation: Any) -> tuple[str, str | None]:
    schema, _, name = table_of(operation).rpartition(".")
    return name, schema or None


def name_of(operation: Any) -> tuple[str, str]:
    """What makes an index or a constraint the same one."""
    return table_of(operation), str(getattr(operation, "index_name", None) or operation.constraint_name)


def type_text(column: Column[Any]) -> str | None:
    return None if isinstance(column.type, NullType) else column.type.compile(dialect=DIALECT)


def shape(operation: Any) -> set[tuple[str, str | None]]:
    return {(column.name, type_text(column)) for column in operation.to_table().columns}


def referred(table: Table) -> set[str]:
    return {key.target_fullname.rpartition(".")[0] for key in table.foreign_keys}


def alter(operation: Any, **changes: Any) -> ops.AlterColumnOp:
    """An operation that changes a column, and says of it no more than that.

    Args:
        operation: another one, of the same column.
        changes: as `AlterColumnOp` takes them.
    """
    name = operation.column.name if isinstance(operation, ops.AddColumnOp) else operation.column_name
    return ops.AlterColumnOp(operation.table_name, name, schema=operation.schema, **changes)
