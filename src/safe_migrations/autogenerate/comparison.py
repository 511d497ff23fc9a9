"""The comparison of models and database as a whole, because one difference often explains another."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from typing import Any

from alembic.operations import MigrateOperation, ops
from sqlalchemy import Column, Connection, ForeignKeyConstraint, Select, Table, inspect, literal_column, select
from sqlalchemy import table as sql_table
from sqlalchemy.types import NullType

from safe_migrations.autogenerate.dependents import Dependents, changed_by
from safe_migrations.autogenerate.new_backfill import NewBackfill
from safe_migrations.autogenerate.restoring import with_restoring
from safe_migrations.ddl.column_changes import DIALECT, keeps_rows
from safe_migrations.ddl.dependents import find_dependents
from safe_migrations.ddl.partitions import is_partitioned
from safe_migrations.postgres.sql import dotted, qualified, short_name
from safe_migrations.upgrade.phases import CONTRACT, EXPAND


class Comparison:
    """The differences between models and database.

    Attributes:
        operations: what Alembic would do, one by one, in a deterministic order.
        connection: to the database.
        tables: of the models, by their keys in the metadata.
        created: the operations that create tables, by the tables' names.
        dropped: the operations that drop tables.
        added: the columns that are added, by the names of table and column.
        removed: the columns that are dropped.
        converted: the columns whose new type rewrites the table.
        replaced: the operations that drop an index or a constraint whose name another one gets.
        renamed: the old names of the columns that are added under a new name, by the names of table and column.
        values: says what existing rows get in a column, as SQL; None if its author writes that.
        backfills: the backfills that the safe forms need; they add to it.
        is_first: whether the database has no revision yet.
        unreleased: the tables that no release has, and that have no rows.
    """

    def __init__(
        self,
        operations: Iterable[MigrateOperation],
        connection: Connection,
        tables: Mapping[str, Table],
        *,
        is_first: bool = False,
        unreleased: Collection[str] = (),
        renamed: Mapping[tuple[str, str], str] = {},
    ) -> None:
        self.operations = [with_restoring(connection, operation) for operation in _in_order(operations)]
        self.connection = connection
        self.tables = tables
        self.renamed = renamed
        self.values: Callable[[str, Column[Any]], str | None] = lambda _table, _column: None
        self.created = {table_of(create): create for create in self.of(ops.CreateTableOp)}
        self.dropped = {table_of(drop): drop for drop in self.of(ops.DropTableOp)}
        self.added = {(table_of(add), add.column.name): add.column for add in self.of(ops.AddColumnOp)}
        self.removed = {(table_of(drop), drop.column_name): drop.to_column() for drop in self.of(ops.DropColumnOp)}
        self.converted = {
            (table_of(change), change.column_name)
            for change in self.of(ops.AlterColumnOp)
            if change.modify_type is not None and not keeps_rows(change.existing_type, change.modify_type)
        }
        new_names = {name_of(create) for create in self.of(ops.CreateIndexOp, ops.AddConstraintOp)}
        drops = {name_of(drop): drop for drop in self.of(ops.DropIndexOp, ops.DropConstraintOp)}
        self.replaced = {name: drops[name] for name in drops.keys() & new_names}
        self.backfills: list[NewBackfill] = []
        self.is_first = is_first
        self.unreleased = {name for name in unreleased if name in tables and not self._has_rows(tables[name])}

    def _has_rows(self, table: Table) -> bool:
        rows: Select[Any] = select(literal_column("1")).select_from(sql_table(table.name, schema=table.schema))
        exists = inspect(self.connection).has_table(table.name, table.schema)
        return exists and self.connection.scalar(rows.limit(1)) is not None

    @cached_property
    def dependents(self) -> Dependents:
        """What depends on the tables, columns and constraints that are dropped, and on the columns with new types."""
        return find_dependents(self.connection, list(chain.from_iterable(map(changed_by, self.operations))))

    def of(self, *kinds: type[Any]) -> list[Any]:
        """The operations of these kinds."""
        return [operation for operation in self.operations if isinstance(operation, kinds)]

    def related(self, name: str) -> str:
        """A common name for the new tables that foreign keys connect with this one: they are one change."""
        related = {name}
        while (
            more := {
                other
                for table, operation in self.created.items()
                for pair in ({table, *map(referred, foreign_keys(operation))},)
                for other in pair
                if related & pair and other in self.created
            }
            - related
        ):
            related |= more
        return min(related)

    def of_operations(
        self, operations: Iterable[MigrateOperation], renamed: Mapping[tuple[str, str], str] = {}
    ) -> "Comparison":
        """The same with other operations, and with renamed columns among those that are added."""
        return Comparison(
            operations,
            self.connection,
            self.tables,
            is_first=self.is_first,
            unreleased=self.unreleased,
            renamed=renamed,
        )

    def phase_of_dropping(self, operation: MigrateOperation, columns: Any) -> str:
        """The phase that drops a constraint: expand, as the new code may violate it, unless its column is dropped."""
        dropped = any((table_of(operation), column) in self.removed for column in columns)
        return CONTRACT if dropped else EXPAND

    def phase_of_building(self, operation: MigrateOperation, columns: Any) -> str:
        """The phase that builds an index: expand, because the new code may need it, unless a type changes before."""
        converted = any((table_of(operation), column.name) in self.converted for column in columns)
        return CONTRACT if converted else EXPAND

    def is_partitioned(self, operation: MigrateOperation) -> bool:
        """Whether the table of an operation is partitioned."""
        name, schema = names_of(operation)
        return is_partitioned(self.connection, qualified(self.connection.dialect, schema, name))

    def model_column(self, operation: ops.AlterColumnOp) -> Column[Any]:
        """The model's column, whose key may be another name."""
        return next(column for column in self._model(operation).columns if column.name == operation.column_name)

    def _model(self, operation: ops.AlterColumnOp) -> Table:
        default = self.connection.dialect.default_schema_name
        schema, name = operation.schema, operation.table_name
        tables = {(table.schema, table.name): table for table in self.tables.values()}
        return tables[(schema, name) if (schema, name) in tables else (schema or default, name)]


def _in_order(operations: Iterable[MigrateOperation]) -> list[MigrateOperation]:
    """One by one, in a deterministic order; what refers to a table or a column is dropped before it."""
    flat = list(_flat(operations))
    dropped = {table_of(drop): drop for drop in flat if isinstance(drop, ops.DropTableOp)}
    before: dict[str, set[str]] = {name: set() for name in sorted(dropped)}
    for name, operation in dropped.items():
        for other in set(map(referred, foreign_keys(operation))) & dropped.keys() - {name}:
            before[other].add(name)
    columns = sorted((drop for drop in flat if isinstance(drop, ops.DropColumnOp)), key=_computed_first)
    rest = [operation for operation in flat if not isinstance(operation, ops.DropTableOp | ops.DropColumnOp)]
    return [*rest, *columns, *(dropped[name] for name in _without_cycles(before))]


def _computed_first(drop: ops.DropColumnOp) -> tuple[bool, str]:
    """Drop computed columns first, because the columns that they use can't be dropped before."""
    return drop.to_column().computed is None, drop.column_name


def _without_cycles(before: dict[str, set[str]]) -> list[str]:
    """The names in order; in a cycle, one of them comes before its predecessor."""
    while True:
        try:
            return list(TopologicalSorter(before).static_order())
        except CycleError as error:
            predecessor, name, *_ = error.args[1]
            before[name].discard(predecessor)


def _flat(operations: Iterable[MigrateOperation]) -> Iterator[MigrateOperation]:
    for operation in operations:
        if isinstance(operation, ops.OpContainer):
            yield from _flat(operation.ops)
        else:
            yield with_name(operation)


def with_name(operation: MigrateOperation) -> MigrateOperation:
    """The operation, which names a constraint as PostgreSQL would, if the models do not name it."""
    if isinstance(operation, ops.CreateUniqueConstraintOp) and operation.constraint_name is None:
        operation.constraint_name = short_name("_".join((operation.table_name, *operation.columns, "key")))
    if isinstance(operation, ops.CreateForeignKeyOp) and operation.constraint_name is None:
        operation.constraint_name = short_name("_".join((operation.source_table, *operation.local_cols, "fkey")))
    return operation


def table_of(operation: Any) -> str:
    """The table of an operation, as in the metadata's keys."""
    name = getattr(operation, "source_table", None) or operation.table_name
    schema = getattr(operation, "schema", None) or getattr(operation, "kw", {}).get("source_schema")
    return dotted(schema, str(name))


def names_of(operation: Any) -> tuple[str, str | None]:
    schema, _, name = table_of(operation).rpartition(".")
    return name, schema or None


def name_of(operation: Any) -> tuple[str, str]:
    """What identifies an index or a constraint."""
    return table_of(operation), str(getattr(operation, "index_name", None) or operation.constraint_name)


def type_text(column: Column[Any]) -> str | None:
    return None if isinstance(column.type, NullType) else column.type.compile(dialect=DIALECT)


def shape(operation: Any) -> set[tuple[str, str | None]]:
    return {(column.name, type_text(column)) for column in operation.to_table().columns}


def foreign_keys(operation: ops.CreateTableOp | ops.DropTableOp) -> list[ForeignKeyConstraint]:
    items = operation.columns if isinstance(operation, ops.CreateTableOp) else operation.to_table().constraints
    keys = [item for item in items if isinstance(item, ForeignKeyConstraint)]
    return sorted(keys, key=lambda key: (key.column_keys, referred(key)))


def referred(key: ForeignKeyConstraint) -> str:
    """The table that a foreign key references."""
    return key.referred_table.fullname


def alter(operation: Any, **changes: Any) -> ops.AlterColumnOp:
    """An operation that changes the column of another operation, with the arguments of `AlterColumnOp`."""
    name = operation.column.name if isinstance(operation, ops.AddColumnOp) else operation.column_name
    return ops.AlterColumnOp(operation.table_name, name, schema=operation.schema, **changes)
