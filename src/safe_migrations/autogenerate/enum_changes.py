"""What becomes of enums when models change: Alembic's autogenerate compares tables and columns alone.

The cases are those of alembic-postgresql-enum (https://github.com/Pogchamp-company/alembic-postgresql-enum); here, no
value is removed and no table rewritten unless somebody has agreed.
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
from sqlalchemy.schema import DefaultClause
from sqlalchemy.types import TypeEngine

from safe_migrations.autogenerate.enum_types import enum_of
from safe_migrations.ddl.column_changes import default_text
from safe_migrations.ddl.enums import AddEnumValueOp, CreateEnumOp, DropEnumOp, ReplaceEnumOp
from safe_migrations.errors import MigrationError

CREATED = "created"
VALUES_ADDED = "values added"
REPLACED = "replaced"
DROPPED = "dropped"

_ENUMS = text("""
    SELECT n.nspname AS schema, t.typname AS name, pg_type_is_visible(t.oid) AS visible,
      ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder) AS values
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typtype = 'e'
""")
# Columns of partitions change with their table's; a view or another type that has such a column can't change.
_USES = text("""
    SELECT tn.nspname AS schema, t.typname AS name,
      cn.nspname AS table_schema, c.relname AS table_name, a.attname AS column_name
    FROM pg_type t JOIN pg_namespace tn ON tn.oid = t.typnamespace
    JOIN pg_attribute a ON a.atttypid IN (t.oid, t.typarray) AND a.attinhcount = 0
    JOIN pg_class c ON c.oid = a.attrelid AND c.relkind NOT IN ('i', 'I')
    JOIN pg_namespace cn ON cn.oid = c.relnamespace
    WHERE t.typtype = 'e'
    ORDER BY 3, 4, a.attnum
""")


@dataclass(frozen=True)
class EnumChange:
    """What becomes of one enum.

    Attributes:
        kind: `CREATED` and `VALUES_ADDED` come before the tables that use it, in a transaction of their own if it is
            the latter; `REPLACED` and `DROPPED` come last, after what the new code no longer uses.
        name: the type's.
        schema: the type's, if it is not found without.
        upgrade: its operations.
        downgrade: those that take it back; none for values that were added.
        comment: what it does and why, in one line.
        downgrade_comment: what there is to know about the way back, in lines.
        acknowledged: what is lost or locked, if somebody has to agree.
        tables: those that are rewritten, with their schema if it is not the default one.
    """

    kind: str
    name: str
    schema: str | None
    upgrade: list[MigrateOperation]
    downgrade: list[MigrateOperation]
    comment: str
    downgrade_comment: tuple[str, ...] = ()
    acknowledged: str | None = None
    tables: tuple[str, ...] = ()


class EnumChangeOp(MigrateOperation):
    """A change of an enum among the differences that autogenerate finds."""

    def __init__(self, change: EnumChange) -> None:
        self.change = change

    def to_diff_tuple(self) -> tuple[str, EnumChange]:
        """As `alembic check` tells it."""
        return f"enum_{self.change.kind.replace(' ', '_')}", self.change

    def reverse(self) -> "EnumChangeOp":
        """The same: a change knows both directions."""
        return self


def compare_enums(context: AutogenContext, upgrade_ops: ops.UpgradeOps) -> PriorityDispatchResult:
    """Let autogenerate, and `alembic check`, compare enums as well.

    Args:
        context: with the models, the filters and the connection.
        upgrade_ops: what has been found, to which the changes are added.
    """
    upgrade_ops.ops.extend(EnumChangeOp(change) for change in enum_changes(context, list(upgrade_ops.ops)))
    return PriorityDispatchResult.CONTINUE


def compare_default(
    context: AutogenContext,
    operation: ops.AlterColumnOp,
    _schema: str | None,
    _table: str,
    _name: str,
    found: Column[Any],
    column: Column[Any],
) -> PriorityDispatchResult:
    """Compare the default of an enum column here: the server, which Alembic asks, knows no value yet to come.

    Args:
        context: with the connection.
        operation: is told what differs.
        found: the column of the database.
        column: of the models.
    """
    before, after = found.server_default, column.server_default
    if enum_of(column.type) is None or not isinstance(before, DefaultClause) or not isinstance(after, DefaultClause):
        return PriorityDispatchResult.CONTINUE
    text = default_text(cast(Connection, context.connection), column)
    if str(before.arg).partition("::")[0] != str(text).partition("::")[0]:
        operation.existing_server_default, operation.modify_server_default = before, after
    return PriorityDispatchResult.STOP


class _Name(NamedTuple):
    schema: str
    name: str


class _ColumnName(NamedTuple):
    schema: str
    table: str
    column: str


@dataclass(frozen=True)
class _Wanted:
    schema: str | None
    values: list[str]


def enum_changes(context: AutogenContext, operations: Iterable[MigrateOperation]) -> list[EnumChange]:
    """Compare the enums of the models with those of the database.

    Args:
        context: with the models, the filters and the connection.
        operations: of the upgrade that autogenerate has found, from which columns come and go.

    Returns:
        What to do, in order: what creates and adds first, and what replaces and drops last.

    Raises:
        MigrationError: an enum has no name, or two have the same name and other values.
    """
    return _Comparison(context, operations).changes()


class _Comparison:
    def __init__(self, context: AutogenContext, operations: Iterable[MigrateOperation]) -> None:
        connection = cast(Connection, context.connection)  # autogenerate has one
        self.default_schema = context.dialect.default_schema_name or "public"
        self.found: dict[_Name, list[str]] = {}
        self.visible: dict[str, _Name] = {}
        for row in connection.execute(_ENUMS):
            self.found[_Name(row.schema, row.name)] = row.values
            if row.visible:
                self.visible[row.name] = _Name(row.schema, row.name)
        self.uses: defaultdict[_Name, list[_ColumnName]] = defaultdict(list)
        for row in connection.execute(_USES):
            self.uses[_Name(row.schema, row.name)].append(
                _ColumnName(row.table_schema, row.table_name, row.column_name)
            )
        self.wanted = self._of_models(context)
        self.lost: set[_Name] = set()
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
                    raise MigrationError(f'The enum of {column} has no name: give it one, Enum(…, name="…").')
                if wanted.setdefault(self._name(enum), _Wanted(enum.schema, enum.enums)).values != enum.enums:
                    raise MigrationError(
                        f"The enum {enum.name} of {column} has other values than another one of this name: give each a "
                        "name of its own, or use one type for both."
                    )
        return wanted

    def _name(self, enum: postgresql.ENUM) -> _Name:
        name = str(enum.name)
        default = _Name(self.default_schema, name)
        return _Name(enum.schema, name) if enum.schema else self.visible.get(name, default)

    def _follow(self, operation: MigrateOperation) -> None:
        """Let `uses` be as it is after this operation, and remember whose columns went."""
        match operation:
            case ops.OpContainer():
                for each in operation.ops:
                    self._follow(each)
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
        gone = (schema or self.default_schema, table, column)
        for name, columns in self.uses.items():
            kept = [each for each in columns if each[: 3 if column else 2] != gone[: 3 if column else 2]]
            if len(kept) < len(columns):
                self.lost.add(name)
                columns[:] = kept

    def changes(self) -> list[EnumChange]:
        """What to do, in order."""
        new = [_create(name.name, wanted) for name, wanted in self.wanted.items() if name not in self.found]
        found = [(name, wanted) for name, wanted in self.wanted.items() if name in self.found]
        changed = [change for name, wanted in found for change in self._change(name, wanted)]
        unused = [name for name in self.found if name in self.lost and not self.uses[name] and name not in self.wanted]
        return [
            *new,
            *(change for change in changed if change.kind == VALUES_ADDED),
            *(change for change in changed if change.kind == REPLACED),
            *(self._drop(name) for name in unused),
        ]

    def _change(self, name: _Name, wanted: _Wanted) -> Iterator[EnumChange]:
        additions, values = _with_additions(name.name, wanted, self.found[name])
        if additions:
            yield _add(name.name, wanted, additions, [value for value in values if value not in self.found[name]])
        if values != wanted.values:
            yield self._replace(name, wanted, values)

    def _replace(self, name: _Name, wanted: _Wanted, values: list[str]) -> EnumChange:
        columns = [(self._written(each), each.column) for each in self.uses[name]]
        tables = tuple(dict.fromkeys(table for table, _ in columns))
        removed = [value for value in values if value not in wanted.values]
        operation = ReplaceEnumOp(name.name, wanted.values, columns, wanted.schema, values)
        how = f"without {_listed(removed)}" if removed else "in another order"
        return EnumChange(
            REPLACED,
            name.name,
            wanted.schema,
            [operation],
            [operation.reverse()],
            f"Replaces the enum {name.name} by one {how}, because PostgreSQL can't change it in place.",
            acknowledged=_danger(name.name, removed, tables) + _renaming(name.name, self.found[name], wanted.values),
            tables=tables,
        )

    def _drop(self, name: _Name) -> EnumChange:
        schema = None if self.visible.get(name.name) == name else name.schema
        operation = DropEnumOp(name.name, schema, self.found[name])
        comment = f"Drops the enum {name.name}, which no column uses any more."
        return EnumChange(DROPPED, name.name, schema, [operation], [operation.reverse()], comment)

    def _written(self, column: _ColumnName) -> str:
        return column.table if column.schema == self.default_schema else f"{column.schema}.{column.table}"


def _create(name: str, wanted: _Wanted) -> EnumChange:
    operation = CreateEnumOp(name, wanted.values, wanted.schema)
    comment = f"Creates the enum {name} once, for every column that uses it."
    return EnumChange(CREATED, name, wanted.schema, [operation], [operation.reverse()], comment)


def _add(name: str, wanted: _Wanted, operations: list[MigrateOperation], added: list[str]) -> EnumChange:
    stays, it = ("stays", "it") if len(added) == 1 else ("stay", "them")
    return EnumChange(
        VALUES_ADDED,
        name,
        wanted.schema,
        operations,
        [],
        f"Adds {_listed(added)} to the enum {name}: no table is locked, and only later revisions may use it.",
        (
            f"{_listed(added)} {stays}, unused, and the next upgrade finds {it} there.",
            "safe: empty-downgrade because PostgreSQL can't remove a value of an enum",
        ),
    )


def _with_additions(name: str, wanted: _Wanted, found: Sequence[str]) -> tuple[list[MigrateOperation], list[str]]:
    """Each new value next to the one that the models have before it; and the values that there are then."""
    operations: list[MigrateOperation] = []
    values = list(found)
    for number, value in enumerate(wanted.values):
        if value in values:
            continue
        previous = wanted.values[number - 1] if number else None
        place = values.index(previous) + 1 if previous is not None else 0
        neighbour = {"after": previous} if previous is not None else {"before": values[0] if values else None}
        operations.append(AddEnumValueOp(name, value, schema=wanted.schema, **neighbour if place < len(values) else {}))
        values.insert(place, value)
    return operations, values


def _danger(name: str, removed: list[str], tables: tuple[str, ...]) -> str:
    if removed:
        it = "it" if len(removed) == 1 else "one of them"
        change = f"the enum {name} loses {_listed(removed)}: this fails where a row has {it}"
    else:
        change = f"the values of the enum {name} get another order"
    if not tables:
        return change
    return f"{change}; rewrites {', '.join(tables)}, and nobody can read or write meanwhile"


def _renaming(name: str, found: list[str], wanted: list[str]) -> str:
    """The better way, if one value seems to have a new name."""
    removed = [value for value in found if value not in wanted]
    added = [value for value in wanted if value not in found]
    if len(removed) != 1 or len(added) != 1 or found.index(removed[0]) != wanted.index(added[0]):
        return ""
    return (
        f"; if {_listed(removed)} only changes its name to {_listed(added)}, write ALTER TYPE {name} RENAME VALUE "
        f"{_listed(removed)} TO {_listed(added)} in place of this and of the revision that adds {_listed(added)}"
    )


def _listed(values: Sequence[str]) -> str:
    return ", ".join(f"'{value}'" for value in values)
