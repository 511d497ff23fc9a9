"""The comparison of enums between models and database: Alembic's autogenerate compares tables and columns alone.

The cases are those of alembic-postgresql-enum (https://github.com/Pogchamp-company/alembic-postgresql-enum); here, no
value is removed and no table rewritten without an acknowledgement.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, ops
from alembic.util import PriorityDispatchResult
from sqlalchemy import Connection, text
from sqlalchemy.dialects import postgresql

from safe_migrations.autogenerate.column_types import enum_of
from safe_migrations.autogenerate.named_types import (
    CREATED,
    DROPPED,
    ColumnName,
    NamedTypeComparison,
    TypeChange,
    TypeName,
)
from safe_migrations.ddl.dependents import Changed
from safe_migrations.ddl.enums import AddEnumValueOp, CreateEnumOp, DropEnumOp, ReplaceEnumOp
from safe_migrations.errors import ModelError

VALUES_ADDED = "values added"
REPLACED = "replaced"

_QUOTE = postgresql.dialect().identifier_preparer.quote_identifier  # type: ignore[no-untyped-call]

_ENUMS = text("""
    SELECT n.nspname AS schema, t.typname AS name, pg_type_is_visible(t.oid) AS visible,
      ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder) AS values
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typtype = 'e'
""")


class EnumChange(TypeChange):
    """A difference of one enum: values are added in a transaction of their own, and replaced last."""

    what = "enum"


def compare_enums(context: AutogenContext, upgrade_ops: ops.UpgradeOps) -> PriorityDispatchResult:
    """Let autogenerate, and `alembic check`, compare enums as well."""
    upgrade_ops.ops.extend(enum_changes(context, list(upgrade_ops.ops)))
    return PriorityDispatchResult.CONTINUE


@dataclass(frozen=True)
class _Wanted:
    schema: str | None
    values: list[str]


def enum_changes(context: AutogenContext, operations: Iterable[MigrateOperation]) -> list[EnumChange]:
    """The differences between the enums of models and database: what creates and adds, then what replaces and drops.

    Raises:
        ModelError: an enum has no name, or two have the same name and other values.
    """
    return _EnumComparison(context, operations).changes()


class _EnumComparison(NamedTypeComparison):
    def __init__(self, context: AutogenContext, operations: Iterable[MigrateOperation]) -> None:
        rows = cast(Connection, context.connection).execute(_ENUMS).all()  # autogenerate has one
        super().__init__(context, operations, rows)
        self.existing: dict[TypeName, list[str]] = {TypeName(row.schema, row.name): row.values for row in rows}
        self.wanted = self._of_models()

    def _of_models(self) -> dict[TypeName, _Wanted]:
        wanted: dict[TypeName, _Wanted] = {}
        for column in self.columns():
            enum = enum_of(column.type)
            if enum is None:
                continue
            if not enum.name:
                raise ModelError(f'The enum of {column} has no name. Name it in the model: Enum(…, name="…")')
            if wanted.setdefault(self.name_of(enum), _Wanted(enum.schema, enum.enums)).values != enum.enums:
                raise ModelError(
                    f"The models have two enums named {enum.name} with different values, one of them of {column}. "
                    "Rename one of them, or use one type for both columns."
                )
        return wanted

    def changes(self) -> list[EnumChange]:
        """In the order in which they run."""
        new = [_create(name.name, wanted) for name, wanted in self.wanted.items() if name not in self.existing]
        both = [(name, wanted) for name, wanted in self.wanted.items() if name in self.existing]
        changed = [change for name, wanted in both for change in self._change(name, wanted)]
        changed.sort(key=lambda change: change.kind == REPLACED)
        return [*new, *changed, *map(self._drop, self.unused(self.existing, self.wanted))]

    def _change(self, name: TypeName, wanted: _Wanted) -> Iterator[EnumChange]:
        additions, values = _with_additions(name.name, wanted, self.existing[name])
        if additions:
            yield _add(name.name, wanted, additions, [value for value in values if value not in self.existing[name]])
        if values != wanted.values:
            yield self._replace(name, wanted, values)

    def _replace(self, name: TypeName, wanted: _Wanted, values: list[str]) -> EnumChange:
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
            f"Replaces the enum {name.name} by one {how}, because PostgreSQL can't change an enum in place.",
            acknowledged=_danger(name.name, removed, tables),
            columns=tuple(Changed("type", use.schema, use.table, use.column) for use in uses),
        )

    def _drop(self, name: TypeName) -> EnumChange:
        schema = self.schema_of(name)
        operation = DropEnumOp(name.name, schema, self.existing[name])
        comment = f"Drops the enum {name.name}, which no column uses."
        return EnumChange(DROPPED, name.name, schema, [operation], [operation.reverse()], comment)

    def _written(self, column: ColumnName) -> str:
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
        (f"The enum keeps {_listed(added)}, because PostgreSQL can't remove a value; the next upgrade adds nothing.",),
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


def _listed(values: Sequence[str]) -> str:
    return ", ".join(f"'{value}'" for value in values)
