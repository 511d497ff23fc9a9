"""What depends on a table or a column: views are created again around a new type; the rest is for the author to decide.

PostgreSQL refuses a change while something else depends on it, and CASCADE would drop objects that
no revision names.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from alembic.operations import MigrateOperation, ops

from safe_migrations.autogenerate.enum_comparison import EnumChange
from safe_migrations.autogenerate.plan import Change
from safe_migrations.autogenerate.rendering import Comment
from safe_migrations.ddl.dependents import Changed, Dependent, DropDependentViewsOp, RecreateDependentViewsOp

_DROP = (
    "First drop each of these objects, or replace it by an object without this dependency: CASCADE would drop",
    "all of them.",
)
_RECREATE = (
    "Drop each of these objects before, and create it again after, in upgrade() and downgrade(). For the definitions:",
    "pg_dump --schema-only",
)

Dependents = Mapping[Changed, Sequence[Dependent]]


def changed_by(operation: MigrateOperation) -> tuple[Changed, ...]:
    """The objects that an operation drops, or gives another type."""
    match operation:
        case ops.DropTableOp():
            return (Changed("table", operation.schema, operation.table_name),)
        case ops.DropColumnOp():
            return (Changed("column", operation.schema, operation.table_name, operation.column_name),)
        case ops.DropConstraintOp():
            return (Changed("constraint", operation.schema, operation.table_name, str(operation.constraint_name)),)
        case ops.AlterColumnOp() if operation.modify_type is not None:
            return (Changed("type", operation.schema, operation.table_name, operation.column_name),)
        case EnumChange():
            return operation.columns
    return ()


def with_dependents(change: Change, operation: Any, dependents: Dependents) -> Change:
    """The same with the views that depend on a column created again, or with a question about what else depends."""
    changed = [item for item in changed_by(operation) if dependents[item]]
    if not changed:
        return change
    obstacles = list(dict.fromkeys(dependent for item in changed for dependent in dependents[item]))
    names = [dependent.name for dependent in obstacles]
    if changed[0].kind != "type":
        return _ask(change, names, _DROP)
    if not all(dependent.is_plain_view for dependent in obstacles):
        return _ask(change, names, _RECREATE, alone=True)
    comments = map(Comment, _listed("Drops and creates again, with owner, privileges and comments:", names))
    return replace(
        change,
        upgrade=(*comments, *_between(changed, change.upgrade)),
        downgrade=tuple(_between(changed, change.downgrade)),
    )


def _between(columns: list[Changed], operations: Iterable[MigrateOperation]) -> Iterable[MigrateOperation]:
    """The operations while the views do not exist."""
    for column in columns:
        yield DropDependentViewsOp(column.table, str(column.name), column.schema)
    yield from operations
    yield RecreateDependentViewsOp()


def _ask(change: Change, names: list[str], advice: Iterable[str], **attributes: Any) -> Change:
    danger = f"PostgreSQL refuses this while something depends on it: {', '.join(names)}"
    danger = "; ".join(filter(None, (change.danger, danger)))
    lines = _listed("PostgreSQL refuses this change while something depends on it:", names)
    return change.with_question((*lines, *advice), danger, **attributes)


def _listed(heading: str, names: list[str]) -> list[str]:
    return [heading, *(f"- {name}" for name in names)]
