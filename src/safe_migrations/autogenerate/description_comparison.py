"""Operations for what PostgreSQL describes differently for the database and the models, and Alembic does not see.

What Alembic has operations for becomes such an operation, so that the safe forms are the same. All else is a
`SchemaChange`.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, ops
from alembic.runtime.migration import MigrationContext
from alembic.util import PriorityDispatchResult, to_list
from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Constraint,
    DefaultClause,
    FetchedValue,
    ForeignKeyConstraint,
    Index,
    Sequence,
    Table,
    UniqueConstraint,
    text,
)

from safe_migrations.autogenerate.descriptions import OF_COLUMNS, Description, Difference, TableName
from safe_migrations.autogenerate.equivalence import leave_equal_indexes, leave_equal_types
from safe_migrations.autogenerate.model_tables import SchemaComparison, compare_with_database
from safe_migrations.autogenerate.parameters import condition_as_text
from safe_migrations.autogenerate.sqlalchemy_internals import sequences_of
from safe_migrations.ddl.column_changes import is_identity
from safe_migrations.postgres.sql import dotted
from safe_migrations.printable import printable

SCHEMA_DIFFERENCE = "modify_schema"  # as `alembic check` names it
PREDICATES = "safe_migrations_predicates"  # of an index and of the one that it replaces, in PostgreSQL's words
_KEY = "safe_migrations_descriptions"  # in the options of a comparison

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SchemaChange(MigrateOperation):
    """A difference that Alembic has no operation for.

    Attributes:
        table_name: of the table.
        schema: the table's, as in the models.
        difference: in PostgreSQL's words.
        column: the models', for a difference of a column.
        existing: the database's.
    """

    table_name: str
    schema: str | None
    difference: Difference
    column: Column[Any] | None = None
    existing: Column[Any] | None = None

    def to_diff_tuple(self) -> tuple[str, str]:
        """The difference as `alembic check` reports it."""
        return SCHEMA_DIFFERENCE, str(self)

    def reverse(self) -> "SchemaChange":
        """The change itself: a change has both directions."""
        return self

    def __str__(self) -> str:
        return f"{dotted(self.schema, self.table_name)}: {self.difference}"


def compare_schema(context: AutogenContext, _operations: ops.UpgradeOps, *_: Any) -> PriorityDispatchResult:
    """Before Alembic compares, let PostgreSQL describe both sides."""
    connection = cast(Connection, context.connection)
    tables = (
        table
        for table in context.sorted_tables
        if context.run_name_filters(table.name, "table", {"schema_name": table.schema})
    )
    context.opts[_KEY] = compare_with_database(connection, tables, _sequences(context), _default_schema(context))
    return PriorityDispatchResult.CONTINUE


def add_sequences(context: AutogenContext, operations: ops.UpgradeOps, *_: Any) -> PriorityDispatchResult:
    """After Alembic has compared, add what differs in sequences, which Alembic does not compare."""
    comparison: SchemaComparison = context.opts[_KEY]
    for sequence in _sequences(context):
        name = TableName(sequence.schema or _default_schema(context), sequence.name)
        for difference in comparison.differences.get(name, ()):
            operations.ops.append(SchemaChange(sequence.name, sequence.schema, difference))
    return PriorityDispatchResult.CONTINUE


def _default_schema(context: AutogenContext) -> str:
    return str(context.dialect.default_schema_name)


def _sequences(context: AutogenContext) -> list[Sequence]:
    return [sequence for metadata in to_list(context.metadata) for sequence in sequences_of(metadata)]


def add_not_compared(migration: MigrationContext, name: str, why: str) -> None:
    """Note something else that could not be compared."""
    comparison: SchemaComparison | None = migration.opts.get(_KEY)
    if comparison is not None:
        comparison.not_compared[name] = why


def not_compared(migration: MigrationContext) -> tuple[str, ...]:
    """What the last comparison could not compare, with the reasons."""
    comparison: SchemaComparison | None = migration.opts.get(_KEY)
    names: dict[str, list[str]] = {}
    for name, why in (comparison.not_compared if comparison else {}).items():
        names.setdefault(why, []).append(name)
    return tuple(f"{', '.join(of_reason)} ({why})" for why, of_reason in names.items())


def definitions(migration: MigrationContext) -> dict[str, str]:
    """Both definitions of what the last comparison found, by `name on table`."""
    comparison: SchemaComparison | None = migration.opts.get(_KEY)
    default = migration.dialect.default_schema_name
    return {
        f"{difference.name} on {table.name if table.schema == default else '.'.join(table)}": difference.definitions
        for table, differences in (comparison.differences if comparison else {}).items()
        for difference in differences
    }


def warn_of_not_compared(migration: MigrationContext) -> None:
    """Log what the last comparison could not compare."""
    for what in not_compared(migration):
        log.warning("Only Alembic compared these with the models: %s", printable(what))


def leave_default(
    context: AutogenContext,
    operation: ops.AlterColumnOp,
    _schema: str | None,
    _table: str,
    _name: str,
    existing: Column[Any],
    _column: Column[Any],
) -> PriorityDispatchResult:
    """Leave the comparison of defaults to PostgreSQL's descriptions, unless the project compares defaults itself."""
    if context.opts.get("compare_server_default") is not True:
        return PriorityDispatchResult.CONTINUE
    if existing.server_default is not None:
        operation.existing_server_default = existing.server_default
    return PriorityDispatchResult.STOP


def compare_table(
    context: AutogenContext,
    operations: ops.ModifyTableOps,
    schema: str | None,
    name: str,
    database: Table | None,
    models: Table | None,
) -> PriorityDispatchResult:
    """After Alembic has compared a table, add what only the descriptions show."""
    comparison: SchemaComparison = context.opts[_KEY]
    if database is not None and models is not None:
        key = TableName(schema or _default_schema(context), name)
        differences = comparison.differences.get(key, [])
        if key in comparison.compared:
            leave_equal_indexes(operations, differences)
            if context.opts.get("compare_type", True) is True:
                leave_equal_types(operations, differences)
        _TableChanges(context, operations, database, models).add(differences)
        for operation in operations.ops:
            condition_as_text(operation, context.migration_context.impl)
    return PriorityDispatchResult.CONTINUE


_FILTERED = {
    "index": "index",
    "unique": "unique_constraint",
    "foreign key": "foreign_key_constraint",
    "check": "check_constraint",
    "primary key": "primary_key_constraint",
    "exclusion": "exclude_constraint",
}  # as `include_object` knows them


class _TableChanges:
    """The operations for one table, of which Alembic has found the first."""

    def __init__(self, context: AutogenContext, operations: ops.ModifyTableOps, database: Table, models: Table) -> None:
        self.context = context
        self.operations = operations
        self.database = database
        self.models = models
        alterations = (operation for operation in operations.ops if isinstance(operation, ops.AlterColumnOp))
        self.altered = {operation.column_name: operation for operation in alterations}
        self.reported, self.unnamed = set[str](), set[type[MigrateOperation]]()
        for operation in operations.ops:
            name = getattr(operation, "index_name", None) or getattr(operation, "constraint_name", None)
            if name:
                self.reported.add(str(name))
            else:
                self.unnamed.add(type(operation))

    def add(self, differences: Iterable[Difference]) -> None:
        """Add the operations for differences, unless Alembic has reported them."""
        columns: dict[str, dict[str, Difference]] = {}
        for difference in differences:
            if difference.kind in OF_COLUMNS:
                columns.setdefault(difference.name, {})[difference.kind] = difference
            elif difference.kind not in _FILTERED or self._is_news(difference):
                self._change_object(difference)
        models = {column.name: column for column in self.models.columns}
        for name, of_column in columns.items():
            if name in models and name in self.database.columns:
                self._change_column(self.database.columns[name], models[name], of_column)

    def _change_column(self, existing: Column[Any], column: Column[Any], differences: dict[str, Difference]) -> None:
        if not self.context.run_object_filters(column, column.name, "column", False, existing):
            return
        altered = self.altered.get(column.name) or ops.AlterColumnOp(
            self.operations.table_name,
            column.name,
            schema=self.operations.schema,
            existing_type=existing.type,
            existing_nullable=existing.nullable,
            existing_server_default=existing.server_default or False,
        )
        if "type" in differences and altered.modify_type is None and self._compares_type(existing, column):
            altered.modify_type = column.type
        if "not null" in differences and altered.modify_nullable is None:
            altered.modify_nullable = column.nullable
        if "computed" in differences:
            self._add_change(differences["computed"], column, existing)
        elif self.context.opts.get("compare_server_default") is True:
            self._change_default(altered, existing, column, differences)
        if altered.has_changes() and column.name not in self.altered:
            self.operations.ops.append(altered)

    def _change_default(
        self, altered: ops.AlterColumnOp, existing: Column[Any], column: Column[Any], differences: dict[str, Difference]
    ) -> None:
        """The default, the identity or the sequence; a default that only the server knows is not the models'."""
        if type(column.server_default) is FetchedValue:
            return
        serial, default = differences.get("serial"), differences.get("default")
        if serial is not None and _definition(serial.models):
            if _definition(serial.database):
                if _definition(serial.database).rpartition(" ")[2] != _definition(serial.models).rpartition(" ")[2]:
                    self._add_change(serial, column, existing)
                return
            if default is not None and _definition(default.database).startswith("nextval("):
                return  # a sequence that the column does not own numbers the rows as well
        if default is not None or "identity" in differences:
            owned = default is not None and serial is not None and _definition(default.database)
            if owned and not is_identity(column.server_default):  # Alembic hides the default of a serial
                altered.existing_server_default = DefaultClause(text(owned))
            altered.modify_server_default = column.server_default
            log.info("%s: %s", self.models.fullname, default or differences["identity"])

    def _compares_type(self, existing: Column[Any], column: Column[Any]) -> bool:
        """Whether the project leaves the comparison of this type to Alembic, and so to PostgreSQL."""
        own = getattr(column.type, "compare_against_backend", None)
        is_equal = own is not None and own(self.context.dialect, existing.type) is False
        return self.context.opts.get("compare_type", True) is True and not is_equal

    def _is_news(self, difference: Difference) -> bool:
        """Whether an index or a constraint is one that Alembic has not reported, and that the project compares."""
        kind, name = _FILTERED[difference.kind], difference.name
        if name in self.reported or (difference.database is None and _CREATES.get(difference.kind) in self.unnamed):
            return False
        parents: Any = {"schema_name": self.operations.schema, "table_name": self.operations.table_name}
        if difference.models is None and not self.context.run_name_filters(name, cast(Any, kind), parents):
            return False
        before, after = self._existing(difference), self._model(difference)
        subject = after if after is not None else before
        if subject is None:
            return True
        is_reflected = after is None
        return self.context.run_object_filters(
            subject, name, cast(Any, kind), is_reflected, None if is_reflected else before
        )

    def _change_object(self, difference: Difference) -> None:
        before, after = self._existing(difference), self._model(difference)
        is_same = difference.kind == "constraint comment" or _definition(difference.database) == _definition(
            difference.models
        )
        if isinstance(before, Index) and isinstance(after, Index):
            create = ops.CreateIndexOp.from_index(after)
            sides = difference.models, difference.database
            create.info[PREDICATES] = tuple(_definition(side).partition(" WHERE ")[2] for side in sides)
            self.operations.ops += [ops.DropIndexOp.from_index(before), create]
        elif isinstance(before, _REPLACED) and isinstance(after, _REPLACED) and not is_same:
            drop, add = ops.DropConstraintOp.from_constraint(before), ops.AddConstraintOp.from_constraint(after)
            self.operations.ops += [drop, add]
        else:
            self._add_change(difference)
        log.info("%s: %s", self.models.fullname, difference)

    def _add_change(
        self, difference: Difference, column: Column[Any] | None = None, existing: Column[Any] | None = None
    ) -> None:
        self.operations.ops.append(
            SchemaChange(self.operations.table_name, self.operations.schema, difference, column, existing)
        )

    def _existing(self, difference: Difference) -> Index | Constraint | None:
        return self._find(self.database, difference)

    def _model(self, difference: Difference) -> Index | Constraint | None:
        return self._find(self.models, difference)

    def _find(self, table: Table, difference: Difference) -> Index | Constraint | None:
        """The index or the constraint of this name, which SQLAlchemy may have shortened."""
        preparer = cast(Any, self.context.dialect).identifier_preparer
        is_index = difference.kind == "index"
        objects: Iterable[Any] = table.indexes if is_index else table.constraints
        name_of = preparer.format_index if is_index else preparer.format_constraint
        return next((part for part in by_name(objects) if name_of(part) == preparer.quote(difference.name)), None)


def by_name(objects: Iterable[Any]) -> list[Any]:
    """One index or constraint for each name: Alembic adds some that SQLAlchemy has reflected with empty options."""
    shortest_last = sorted(objects, key=lambda part: len(part.dialect_kwargs), reverse=True)
    return list({part.name: part for part in shortest_last if part.name}.values())


_REPLACED = (UniqueConstraint, ForeignKeyConstraint, CheckConstraint)
_CREATES = {"unique": ops.CreateUniqueConstraintOp, "foreign key": ops.CreateForeignKeyOp}


def _definition(description: Description | None) -> str:
    return description.definition if description else ""
