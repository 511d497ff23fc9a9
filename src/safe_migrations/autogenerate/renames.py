"""Possible renames: an object is dropped while an object of the same kind and type is added."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from alembic.operations import MigrateOperation, ops
from sqlalchemy import text

from safe_migrations.autogenerate.comparison import Comparison, name_of, shape, table_of, type_text
from safe_migrations.autogenerate.description_comparison import SchemaChange
from safe_migrations.autogenerate.enum_comparison import EnumChange
from safe_migrations.ddl.enums import AddEnumValueOp, ReplaceEnumOp
from safe_migrations.postgres.sql import qualified

_OF_COLUMN = text("""
    SELECT conname::text FROM pg_constraint WHERE conrelid = to_regclass(:table)
      AND (SELECT attnum FROM pg_attribute WHERE attrelid = conrelid AND attname = :column) = ANY(conkey)
    UNION
    SELECT c.relname::text FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind IN ('i', 'I')
      JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE d.classid = 'pg_class'::regclass AND d.refobjid = to_regclass(:table) AND a.attname = :column
""")


@dataclass(frozen=True)
class Rename:
    """A possible rename; as text, as the command line has it: `item.title=name`.

    Attributes:
        kind: of what is renamed.
        owner: the table of a column, the enum of a value, or the schema of a table.
        old: the old name.
        new: the new name.
    """

    kind: Literal["table", "column", "value"]
    owner: str | None
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.old_name}={self.new}"

    @property
    def old_name(self) -> str:
        """The old name with its owner."""
        return self._name(self.old)

    @property
    def new_name(self) -> str:
        """The new name with its owner."""
        return self._name(self.new)

    def _name(self, name: str) -> str:
        return f"{self.owner}.{name}" if self.owner else name

    def excludes(self, other: "Rename") -> bool:
        """Whether the two can't both be renames."""
        one_thing = self.old == other.old or self.new == other.new
        return (self.kind, self.owner) == (other.kind, other.owner) and one_thing


class RenameEnumValueOp(MigrateOperation):
    """A value of an enum that gets another name."""

    def __init__(self, rename: Rename) -> None:
        self.rename = rename


def possible_renames(comparison: Comparison) -> list[Rename]:
    """The possible renames, of tables that may have rows; tables come first: they explain other differences."""
    return [*_tables(comparison), *_values(comparison), *_columns(comparison)]


def operations_of(renames: Iterable[Rename]) -> list[MigrateOperation]:
    """The operations that rename tables and values of enums."""
    operations: list[MigrateOperation] = []
    for rename in renames:
        if rename.kind == "table":
            operations.append(ops.RenameTableOp(rename.old, rename.new, schema=rename.owner))
        else:
            operations.append(RenameEnumValueOp(rename))
    return operations


def without_old_columns(comparison: Comparison, renames: Collection[Rename]) -> list[MigrateOperation]:
    """The operations that leave renamed columns as they are, with their indexes and constraints."""
    kept = {(rename.owner, rename.old) for rename in renames}
    drops = {(table_of(drop), drop.column_name): drop for drop in comparison.of(ops.DropColumnOp)}
    names = {
        (table, name)
        for (table, column) in kept
        for name in _names_of_column(comparison, drops[str(table), column])
        if (table, name) not in comparison.replaced
    }
    return [
        operation
        for operation in comparison.operations
        if not (isinstance(operation, ops.DropColumnOp) and (table_of(operation), operation.column_name) in kept)
        and not (_drops(operation) and _name(operation) in names)
    ]


def _names_of_column(comparison: Comparison, drop: ops.DropColumnOp) -> Iterable[str]:
    table = qualified(comparison.connection.dialect, drop.schema, drop.table_name)
    return comparison.connection.scalars(_OF_COLUMN, {"table": table, "column": drop.column_name}).all()


def _drops(operation: Any) -> bool:
    if isinstance(operation, SchemaChange):
        return operation.difference.models is None and operation.column is None
    return isinstance(operation, ops.DropIndexOp | ops.DropConstraintOp)


def _name(operation: Any) -> tuple[str, str]:
    if isinstance(operation, SchemaChange):
        return table_of(operation), operation.difference.name
    return name_of(operation)


def _tables(comparison: Comparison) -> Iterator[Rename]:
    for create in comparison.created.values():
        for name, drop in comparison.dropped.items():
            if name not in comparison.unreleased and shape(create) == shape(drop) and create.schema == drop.schema:
                yield Rename("table", create.schema, drop.table_name, create.table_name)


def _columns(comparison: Comparison) -> Iterator[Rename]:
    for (table, new), added in comparison.added.items():
        for (of, old), removed in comparison.removed.items():
            if of == table and table not in comparison.unreleased and type_text(removed) == type_text(added):
                yield Rename("column", table, old, new)


def _values(comparison: Comparison) -> Iterator[Rename]:
    changes = comparison.of(EnumChange)
    for replaced in (operation for change in changes for operation in change.upgrade):
        if not isinstance(replaced, ReplaceEnumOp):
            continue
        enum = replaced.name, replaced.schema
        added = [
            operation.value
            for change in changes
            for operation in change.upgrade
            if isinstance(operation, AddEnumValueOp) and (operation.name, operation.schema) == enum
        ]
        owner = ".".join(filter(None, reversed(enum)))
        for new in added:
            for old in replaced.replaced:
                if old not in replaced.values:
                    yield Rename("value", owner, old, new)
