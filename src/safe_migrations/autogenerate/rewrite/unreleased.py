"""Changes of tables that no release has: no code uses the tables, so the changes need no phases."""

from typing import Any

from alembic.operations import MigrateOperation, ops

from safe_migrations.autogenerate.comparison import Comparison, table_of
from safe_migrations.autogenerate.dependents import changed_by
from safe_migrations.autogenerate.plan import Change, Stage
from safe_migrations.autogenerate.rendering import Comment
from safe_migrations.autogenerate.rewrite.types import change_type


def at_once(operation: Any, comparison: Comparison) -> Change | None:
    """The plain form of a change, in one step with the other changes of the table.

    Returns:
        None for a table in use, and for a change that needs more even in an empty table, such as another identity.
    """
    title = _title(operation)
    if not title or table_of(operation) not in comparison.unreleased:
        return None
    if any(comparison.dependents[item] for item in changed_by(operation)):
        return None
    upgrade: tuple[MigrateOperation, ...] = (operation,)
    downgrade: tuple[MigrateOperation, ...] = (operation.reverse(),)
    if isinstance(operation, ops.AlterColumnOp) and operation.modify_type is not None:
        change = change_type(operation, comparison)
        upgrade, downgrade = _operations(change.upgrade), _operations(change.downgrade)
    return Change(Stage.TABLES, table_of(operation), title, upgrade, downgrade, is_unreleased=True)


def _title(operation: Any) -> str:
    """What a change does, in a few words; empty if it is not written at once."""
    match operation:
        case ops.AddColumnOp():
            return f"add {table_of(operation)}.{operation.column.name}"
        case ops.DropColumnOp():
            return f"drop {table_of(operation)}.{operation.column_name}"
        case ops.AlterColumnOp(modify_server_default=False):
            others = operation.modify_nullable is not None or operation.modify_comment is not False
            name = f"{table_of(operation)}.{operation.column_name}"
            return "" if operation.modify_type is not None and others else f"change {name}"
        case ops.CreateIndexOp():
            return f"index {operation.index_name}"
        case ops.AddConstraintOp():
            return str(operation.to_constraint().name)
        case ops.DropIndexOp():
            return f"drop index {operation.index_name}"
        case ops.DropConstraintOp():
            return f"drop {operation.constraint_name}"
    return ""


def _operations(operations: tuple[MigrateOperation, ...]) -> tuple[MigrateOperation, ...]:
    return tuple(operation for operation in operations if not isinstance(operation, Comment))
