"""The safe form of changes of enums: values are added first, and replaced when no code uses the old ones."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from alembic.operations import MigrateOperation, ops
from sqlalchemy.types import TypeEngine

from safe_migrations.autogenerate.column_types import named_type_of
from safe_migrations.autogenerate.comparison import Comparison
from safe_migrations.autogenerate.dependents import with_dependents
from safe_migrations.autogenerate.enum_comparison import REPLACED, EnumChange
from safe_migrations.autogenerate.named_types import CREATED, DROPPED, TypeChange
from safe_migrations.autogenerate.plan import Change, Changes, Stage
from safe_migrations.autogenerate.rendering import Comment
from safe_migrations.autogenerate.rewrite.dispatch import rewrite
from safe_migrations.upgrade.phases import CONTRACT, EXPAND


@rewrite.register
def change_enum(enum: EnumChange, comparison: Comparison) -> Changes:
    """Add values, or replace the enum."""
    if enum.kind in (CREATED, DROPPED):
        return  # beside the columns: see below
    replaced = enum.kind == REPLACED
    change = Change(
        Stage.REPLACE_ENUMS if replaced else Stage.ENUMS,
        next(_tables(enum, comparison), f"enum {enum.name}"),
        f"values of {enum.name}",
        *_operations(enum),
        CONTRACT if replaced else EXPAND,
        alone=True,
        danger=enum.acknowledged,
    )
    yield with_dependents(change, enum, comparison.dependents)


def with_created_and_dropped(changes: list[Change], comparison: Comparison) -> list[Change]:
    """The same with types that are created before their first column, or dropped after their last one."""
    for named in comparison.of(TypeChange):
        created = named.kind == CREATED
        if not created and named.kind != DROPPED:
            continue
        places = [
            index
            for index, change in enumerate(changes)
            if _names_type(change.upgrade if created else change.downgrade, named)
        ]
        place = places[0] if created else places[-1]
        upgrade, downgrade = _operations(named)
        change = replace(
            changes[place],
            title=f"{'create' if created else 'drop'} {named.what} {named.name}",
            upgrade=upgrade,
            downgrade=downgrade,
            danger=None,
            backfill=None,
        )
        changes.insert(place if created else place + 1, change)
    return changes


def _tables(enum: EnumChange, comparison: Comparison) -> Iterator[str]:
    """The existing tables that use an enum."""
    for name, table in sorted(comparison.tables.items()):
        if name not in comparison.created and any(_is_type(column.type, enum) for column in table.columns):
            yield name


def _operations(change: TypeChange) -> tuple[tuple[MigrateOperation, ...], tuple[MigrateOperation, ...]]:
    return (Comment(change.comment), *change.upgrade), (*map(Comment, change.downgrade_comment), *change.downgrade)


def _names_type(operations: Iterable[MigrateOperation], change: TypeChange) -> bool:
    """Whether one of these operations adds a column of the type."""
    types: list[Any] = []
    for operation in operations:
        match operation:
            case ops.CreateTableOp():
                types += [column.type for column in operation.to_table().columns]
            case ops.AddColumnOp():
                types.append(operation.column.type)
            case ops.AlterColumnOp() if operation.modify_type is not None:
                types.append(operation.modify_type)
    return any(_is_type(type_, change) for type_ in types)


def _is_type(type_: TypeEngine[Any], change: TypeChange) -> bool:
    named = named_type_of(type_)
    return named is not None and named.name == change.name and named.schema in (change.schema, None)
