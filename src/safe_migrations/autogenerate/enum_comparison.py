"""The comparison of enums between models and database: Alembic's autogenerate compares tables and columns alone.

The cases are those of alembic-postgresql-enum (https://github.com/Pogchamp-company/alembic-postgresql-enum); here, no
value is removed and no table rewritten without an acknowledgement.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, ops
from alembic.util import PriorityDispatchResult
from sqlalchemy import Column, Connection, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from safe_migrations.autogenerate.column_types import enum_of
from safe_migrations.ddl.dependents import Changed
from safe_migrations.ddl.enums import AddEnumValueOp, CreateEnumOp, DropEnumOp, ReplaceEnumOp
from safe_migrations.errors import ModelError

CREATED = "created"
VALUES_ADDED = "values added"
REPLACED = "replaced"
DROPPED = "dropped"

_QUOTE = postgresql.dialect().identifier_preparer.quote_identifier  # type: ignore[no-untyped-call]

_ENUMS = text("""
    SELECT n.nspname AS schema, t.typname AS name, pg_type_is_visible(t.oid) AS visible,
      ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder) AS values
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typtype = 'e'
""")
# A partition's columns change with their table's; another type with such a column prevents the change.
_USES = text("""
    SELECT tn.nspname AS schema, t.typname AS name,
      cn.nspname AS table_schema, c.relname AS table_name, a.attname AS column_name, c.relkind = 'v' AS is_view
    FROM pg_type t JOIN pg_namespace tn ON tn.oid = t.typnamespace
    JOIN pg_attribute a ON a.atttypid IN (t.oid, t.typarray) AND a.attinhcount = 0
    JOIN pg_class c ON c.oid = a.attrelid AND c.relkind NOT IN ('i', 'I')
    JOIN pg_namespace cn ON cn.oid = c.relnamespace
    WHERE t.typtype = 'e'
    ORDER BY 3, 4, a.attnum
""")


@dataclass(frozen=True, eq=False)
class EnumChange(MigrateOperation):
    """A difference of one enum.

    Attributes:
        kind: `CREATED` and `VALUES_ADDED` run before the tables that use it, the latter in a transaction of their own;
            `REPLACED` and `DROPPED` run last, when no code uses the old values any more.
        name: the type's.
        schema: the type's, if it is not found without.
        upgrade: its operations.
        downgrade: the operations that revert it; none for added values.
        comment: what it does and why, in one line.
        downgrade_comment: the lines above its downgrade.
        acknowledged: what is lost or locked, if that has to be acknowledged.
        columns: which get another type.
    """

    kind: str
    name: str
    schema: str | None
    upgrade: Sequence[Any]
    downgrade: Sequence[Any]
    comment: str
    downgrade_comment: tuple[str, ...] = ()
    acknowledged: str | None = None
    columns: tuple[Changed, ...] = ()

    def to_diff_tuple(self) -> tuple[str, "EnumChange"]:
        """As `alembic check` reports it."""
        return f"enum_{self.kind.replace(' ', '_')}", self

    def reverse(self) -> "EnumChange":
        """The same: a change has both directions."""
        return self


def compare_enums(context: AutogenContext, upgrade_ops: ops.UpgradeOps) -> PriorityDispatchResult:
    """Let autogenerate, and `alembic check`, compare enums as well."""
    upgrade_ops.ops.extend(enum_changes(context, list(upgrade_ops.ops)))
    return PriorityDispatchResult.CONTINUE


class _Name(NamedTuple):
    schema: str
    name: str


class _ColumnName(NamedTuple):
    schema: str
    table: str
    column: str
    is_view: bool = False


@dataclass(frozen=True)
class _Wanted:
    schema: str | None
    values: list[str]


def enum_changes(context: AutogenContext, operations: Iterable[MigrateOperation]) -> list[EnumChange]:
    """The differences between the enums of models and database: what creates and adds, then what replaces and drops.

    Args:
        context: with the models, the filters and the connection.
        operations: of the upgrade that autogenerate has found, which add and drop columns.

    Raises:
        ModelError: an enum has no name, or two have the same name and other values.
    """
    return _EnumComparison(context, operations).changes()


class _EnumComparison:
    def __init__(self, context: AutogenContext, operations: Iterable[MigrateOperation]) -> None:
        connection = cast(Connection, context.connection)  # autogenerate has one
        self.default_schema = context.dialect.default_schema_name or "public"
        self.existing: dict[_Name, list[str]] = {}
        self.visible: dict[str, _Name] = {}
        for row in connection.execute(_ENUMS):
            self.existing[_Name(row.schema, row.name)] = row.values
            if row.visible:
                self.visible[row.name] = _Name(row.schema, row.name)
        self.uses: defaultdict[_Name, list[_ColumnName]] = defaultdict(list)
        for row in connection.execute(_USES):
            self.uses[_Name(row.schema, row.name)].append(
                _ColumnName(row.table_schema, row.table_name, row.column_name, row.is_view)
            )
        self.wanted = self._of_models(context)
        self.unused: set[_Name] = set()
        for operation in operations:
            self._follow(operation)

    def _of_models(self, context: AutogenContext) -> dict[_Name, _Wanted]:
        wanted: dict[_Name, _Wanted] = {}
        for table in context.table_key_to_table.values():
            if not context.run_object_filters(table, table.name, "table", False, None):
                continue
            for column in table.columns:
                enum = enum_of(column.type)
                if enum is None or not context.run_object_filters(column, column.name, "column", False, None):
                    continue
                if not enum.name:
                    raise ModelError(f'The enum of {column} has no name. Name it in the model: Enum(…, name="…")')
                if wanted.setdefault(self._name(enum), _Wanted(enum.schema, enum.enums)).values != enum.enums:
                    raise ModelError(
                        f"The models have two enums named {enum.name} with different values, one of them of {column}. "
                        "Rename one of them, or use one type for both columns."
                    )
        return wanted

    def _name(self, enum: postgresql.ENUM) -> _Name:
        name = str(enum.name)
        default = _Name(self.default_schema, name)
        return _Name(enum.schema, name) if enum.schema else self.visible.get(name, default)

    def _follow(self, operation: MigrateOperation) -> None:
        """Update `uses`, and note the enums that lose a column."""
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
        enum = enum_of(type_)
        if enum is not None:
            self.uses[self._name(enum)].append(_ColumnName(schema or self.default_schema, table, column))

    def _lose(self, schema: str | None, table: str, column: str | None = None) -> None:
        dropped = (schema or self.default_schema, table, column)[: 3 if column else 2]
        for name, columns in self.uses.items():
            kept = [use for use in columns if use[: len(dropped)] != dropped]
            if len(kept) < len(columns):
                self.unused.add(name)
                columns[:] = kept

    def changes(self) -> list[EnumChange]:
        """In the order in which they run."""
        new = [_create(name.name, wanted) for name, wanted in self.wanted.items() if name not in self.existing]
        both = [(name, wanted) for name, wanted in self.wanted.items() if name in self.existing]
        changed = [change for name, wanted in both for change in self._change(name, wanted)]
        unused = [
            name for name in self.existing if name in self.unused and not self.uses[name] and name not in self.wanted
        ]
        changed.sort(key=lambda change: change.kind == REPLACED)
        return [*new, *changed, *map(self._drop, unused)]

    def _change(self, name: _Name, wanted: _Wanted) -> Iterator[EnumChange]:
        additions, values = _with_additions(name.name, wanted, self.existing[name])
        if additions:
            yield _add(name.name, wanted, additions, [value for value in values if value not in self.existing[name]])
        if values != wanted.values:
            yield self._replace(name, wanted, values)

    def _replace(self, name: _Name, wanted: _Wanted, values: list[str]) -> EnumChange:
        uses = [use for use in self.uses[name] if not use.is_view]  # a view gets the new type from the table
        columns = [(self._written(use), use.column) for use in uses]
        tables = list(dict.fromkeys(table for table, _ in columns))
        removed = [value for value in values if value not in wanted.values]
        operation = ReplaceEnumOp(name.name, wanted.values, columns, wanted.schema, values)
        how = f"without {_listed(removed)}" if removed else "with another order"
        return EnumChange(
            REPLACED,
            name.name,
            wanted.schema,
            [operation],
            [operation.reverse()],
            f"Replaces the enum {name.name} by one {how}, because PostgreSQL can't change it in place.",
            acknowledged=_danger(name.name, removed, tables) + _renaming(name.name, self.existing[name], wanted.values),
            columns=tuple(Changed("type", use.schema, use.table, use.column) for use in uses),
        )

    def _drop(self, name: _Name) -> EnumChange:
        schema = None if self.visible.get(name.name) == name else name.schema
        operation = DropEnumOp(name.name, schema, self.existing[name])
        comment = f"Drops the enum {name.name}, which no column uses any more."
        return EnumChange(DROPPED, name.name, schema, [operation], [operation.reverse()], comment)

    def _written(self, column: _ColumnName) -> str:
        parts = [column.table] if column.schema == self.default_schema else [column.schema, column.table]
        return ".".join(_QUOTE(part) if set(part) & set('."') else part for part in parts)


def _create(name: str, wanted: _Wanted) -> EnumChange:
    operation = CreateEnumOp(name, wanted.values, wanted.schema)
    comment = f"Creates the enum {name} once, for every column that uses it."
    return EnumChange(CREATED, name, wanted.schema, [operation], [operation.reverse()], comment)


def _add(name: str, wanted: _Wanted, operations: list[MigrateOperation], added: list[str]) -> EnumChange:
    return EnumChange(
        VALUES_ADDED,
        name,
        wanted.schema,
        operations,
        [],
        f"Adds {_listed(added)} to the enum {name} without locking a table; later revisions can use it.",
        (f"PostgreSQL can't remove a value of an enum: it keeps {_listed(added)}, which the next upgrade finds.",),
    )


def _with_additions(name: str, wanted: _Wanted, existing: Sequence[str]) -> tuple[list[MigrateOperation], list[str]]:
    """Operations that add each new value after its predecessor in the models, and the values that exist then."""
    operations: list[MigrateOperation] = []
    values = list(existing)
    for number, value in enumerate(wanted.values):
        if value in values:
            continue
        previous = wanted.values[number - 1] if number else None
        place = values.index(previous) + 1 if previous is not None else 0
        neighbour = {"after": previous} if previous is not None else {"before": values[0] if values else None}
        operations.append(AddEnumValueOp(name, value, schema=wanted.schema, **neighbour if place < len(values) else {}))
        values.insert(place, value)
    return operations, values


def _danger(name: str, removed: list[str], tables: list[str]) -> str:
    if removed:
        value = "this value" if len(removed) == 1 else "one of these values"
        change = f"removes {_listed(removed)} from the enum {name}, and fails if a row has {value}"
    else:
        change = f"changes the order of the values of the enum {name}"
    if not tables:
        return change
    return f"{change}; rewrites {', '.join(tables)} and blocks reads and writes until the rewrite finishes"


def _renaming(name: str, existing: list[str], wanted: list[str]) -> str:
    """The alternative, if one value may be renamed."""
    removed = [value for value in existing if value not in wanted]
    added = [value for value in wanted if value not in existing]
    if len(removed) != 1 or len(added) != 1 or existing.index(removed[0]) != wanted.index(added[0]):
        return ""
    return (
        f"; if {_listed(removed)} is only renamed to {_listed(added)}, write ALTER TYPE {name} RENAME VALUE "
        f"{_listed(removed)} TO {_listed(added)} instead of this and of the revision that adds {_listed(added)}"
    )


def _listed(values: Sequence[str]) -> str:
    return ", ".join(f"'{value}'" for value in values)
