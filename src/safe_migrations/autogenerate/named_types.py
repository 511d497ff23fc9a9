"""The types that models name, enums and domains, and the columns that use them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast

from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, ops
from sqlalchemy import Column, Connection, Row, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from safe_migrations.autogenerate.column_types import named_type_of
from safe_migrations.ddl.dependents import Changed

CREATED = "created"
DROPPED = "dropped"

# A partition's columns change with their table's; another type with such a column prevents the change.
_USES = text("""
    SELECT tn.nspname AS schema, t.typname AS name,
      cn.nspname AS table_schema, c.relname AS table_name, a.attname AS column_name, c.relkind = 'v' AS is_view
    FROM pg_type t JOIN pg_namespace tn ON tn.oid = t.typnamespace
    JOIN pg_attribute a ON a.atttypid IN (t.oid, t.typarray) AND a.attinhcount = 0
    JOIN pg_class c ON c.oid = a.attrelid AND c.relkind NOT IN ('i', 'I')
    JOIN pg_namespace cn ON cn.oid = c.relnamespace
    WHERE t.typtype IN ('d', 'e') AND tn.nspname <> 'information_schema'
    ORDER BY 3, 4, a.attnum
""")


@dataclass(frozen=True, eq=False)
class TypeChange(MigrateOperation):
    """A difference of one enum or domain.

    Attributes:
        kind: `CREATED` runs before the first table that uses it, and `DROPPED` after the last one.
        name: the type's.
        schema: the type's, if it is not found without.
        upgrade: its operations.
        downgrade: the operations that revert it; none for added values.
        comment: what it does and why, in one line.
        downgrade_comment: the lines above its downgrade.
        acknowledged: what is lost or locked, if that has to be acknowledged.
        columns: which get another type.
    """

    what: ClassVar[str]  # in messages
    kind: str
    name: str
    schema: str | None
    upgrade: Sequence[Any]
    downgrade: Sequence[Any]
    comment: str
    downgrade_comment: tuple[str, ...] = ()
    acknowledged: str | None = None
    columns: tuple[Changed, ...] = ()

    def to_diff_tuple(self) -> tuple[str, "TypeChange"]:
        """The difference as `alembic check` reports it."""
        return f"{self.what}_{self.kind.replace(' ', '_')}", self

    def reverse(self) -> "TypeChange":
        """The change itself: a change has both directions."""
        return self


class TypeName(NamedTuple):
    """Of an enum or a domain."""

    schema: str
    name: str


class ColumnName(NamedTuple):
    """The name of a column that has such a type, or an array of such a type."""

    schema: str
    table: str
    column: str
    is_view: bool = False


class NamedTypeComparison:
    """The columns that use each type, before and after the operations of an upgrade.

    Attributes:
        context: with the models, the filters and the connection.
        default_schema: of the connection.
        visible: the types that are found without a schema.
        uses: the columns of each type, after the operations.
    """

    def __init__(
        self, context: AutogenContext, operations: Iterable[MigrateOperation], existing: Iterable[Row[Any]]
    ) -> None:
        """Read the columns, and follow the operations.

        Args:
            existing: each type of the database: its schema and name, and whether the search path finds it.
        """
        self.context = context
        self.default_schema = context.dialect.default_schema_name or "public"
        self.visible = {row.name: TypeName(row.schema, row.name) for row in existing if row.visible}
        self.uses: defaultdict[TypeName, list[ColumnName]] = defaultdict(list)
        for row in cast(Connection, context.connection).execute(_USES):
            self.uses[TypeName(row.schema, row.name)].append(
                ColumnName(row.table_schema, row.table_name, row.column_name, row.is_view)
            )
        self._lost: set[TypeName] = set()
        for operation in operations:
            self._follow(operation)

    def columns(self) -> Iterator[Column[Any]]:
        """Those of the models that the project's filters include."""
        for table in self.context.table_key_to_table.values():
            if self.context.run_object_filters(table, table.name, "table", False, None):
                for column in table.columns:
                    if self.context.run_object_filters(column, column.name, "column", False, None):
                        yield column

    def name_of(self, type_: postgresql.ENUM | postgresql.DOMAIN) -> TypeName:
        """The name of a type of the models in the database."""
        name = str(type_.name)
        default = TypeName(self.default_schema, name)
        return TypeName(type_.schema, name) if type_.schema else self.visible.get(name, default)

    def schema_of(self, name: TypeName) -> str | None:
        """The schema of a type of the database; None if the type is found without."""
        return None if self.visible.get(name.name) == name else name.schema

    def unused(self, existing: Iterable[TypeName], wanted: Iterable[TypeName]) -> list[TypeName]:
        """The types that no column uses, and that the models do not name."""
        lost = self._lost.difference(wanted)
        return [name for name in existing if name in lost and not self.uses[name]]

    def _follow(self, operation: MigrateOperation) -> None:
        """Update `uses`, and note the types that lose a column."""
        match operation:
            case ops.OpContainer():
                for contained in operation.ops:
                    self._follow(contained)
            case ops.CreateTableOp():
                for column in operation.columns:
                    if isinstance(column, Column):
                        self._gain(operation.schema, operation.table_name, column.name, column.type)
            case ops.AddColumnOp():
                self._gain(operation.schema, operation.table_name, operation.column.name, operation.column.type)
            case ops.AlterColumnOp() if operation.modify_type is not None:
                self._lose(operation.schema, operation.table_name, operation.column_name)
                self._gain(operation.schema, operation.table_name, operation.column_name, operation.modify_type)
            case ops.DropColumnOp():
                self._lose(operation.schema, operation.table_name, operation.column_name)
            case ops.DropTableOp():
                self._lose(operation.schema, operation.table_name)

    def _gain(self, schema: str | None, table: str, column: str, type_: TypeEngine[Any]) -> None:
        named = named_type_of(type_)
        if named is not None:
            self.uses[self.name_of(named)].append(ColumnName(schema or self.default_schema, table, column))

    def _lose(self, schema: str | None, table: str, column: str | None = None) -> None:
        dropped = (schema or self.default_schema, table, column)[: 3 if column else 2]
        for name, columns in self.uses.items():
            kept = [use for use in columns if use[: len(dropped)] != dropped]
            if len(kept) < len(columns):
                self._lost.add(name)
                columns[:] = kept
