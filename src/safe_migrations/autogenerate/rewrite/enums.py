"""The safe form of changes of enums: values are added first, and replaced when no code uses the old ones."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from alembic.operations import MigrateOperation, ops

from safe_migrations.autogenerate.column_types import enum_of
from safe_migrations.autogenerate.comparison import Comparison
from safe_migrations.autogenerate.dependents import with_dependents
from safe_migrations.autogenerate.enum_comparison import CREATED, DROPPED, REPLACED, EnumChange
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
        f"enum {enum.name}",
        f"values of {enum.name}",
        *_operations(enum),
        CONTRACT if replaced else EXPAND,
        alone=True,
        danger=enum.acknowledged,
    )
    yield with_dependents(change, enum, comparison.dependents)


def with_created_and_dropped(changes: list[Change], comparison: Comparison) -> list[Change]:
    """The same with enums that are created before their first column, or dropped after their last one."""
    for enum in comparison.of(EnumChange):
        created = enum.kind == CREATED
        if not created and enum.kind != DROPPED:
            continue
        places = [
            index
            for index, change in enumerate(changes)
            if _names_enum(change.upgrade if created else change.downgrade, enum)
        ]
        place = places[0] if created else places[-1]
        upgrade, downgrade = _operations(enum)
        change = replace(
            changes[place],
            title=f"{'create' if created else 'drop'} enum {enum.name}",
            upgrade=upgrade,
            downgrade=downgrade,
            danger=None,
            backfill=None,
        )
        changes.insert(place if created else place + 1, change)
    return changes


def _operations(enum: EnumChange) -> tuple[tuple[MigrateOperation, ...], tuple[MigrateOperation, ...]]:
    return (Comment(enum.comment), *enum.upgrade), (*map(Comment, enum.downgrade_comment), *enum.downgrade)


def _names_enum(operations: Iterable[MigrateOperation], change: EnumChange) -> bool:
    """Whether one of these operations adds a column of the enum."""
    types: list[Any] = []
    for operation in operations:
        match operation:
            case ops.CreateTableOp():
                types += [column.type for column in operation.to_table().columns]
            case ops.AddColumnOp():
                types.append(operation.column.type)
            case ops.AlterColumnOp() if operation.modify_type is not None:
                types.append(operation.modify_type)
    enums = [enum for type_ in types if (enum := enum_of(type_)) is not None]
    return any(enum.name == change.name and enum.schema in (change.schema, None) for enum in enums)
