"""The safe form of tables that are created and dropped."""

from collections.abc import Callable
from copy import copy

from alembic.operations import MigrateOperation, ops
from sqlalchemy import ForeignKeyConstraint

from safe_migrations.autogenerate.comparison import Comparison, foreign_keys, referred, table_of, with_name
from safe_migrations.autogenerate.dependents import with_dependents
from safe_migrations.autogenerate.plan import Change, Changes, Stage
from safe_migrations.autogenerate.rendering import Comment
from safe_migrations.autogenerate.restoring import restored_table
from safe_migrations.autogenerate.rewrite.dispatch import rewrite
from safe_migrations.upgrade.phases import CONTRACT


@rewrite.register
def create_table(operation: ops.CreateTableOp, comparison: Comparison) -> Changes:
    """Create a table with its indexes, together with the new tables that it references."""
    name = table_of(operation)
    order = list(comparison.created)
    not_yet = set(order[order.index(name) + 1 :])
    late = [  # of tables that refer to each other: added when both exist
        _create(key)
        for table in order
        for key in foreign_keys(comparison.created[table])
        if key.use_alter and name in (pair := {table, referred(key)}) and not pair & not_yet
    ]
    indexes = [index for index in comparison.of(ops.CreateIndexOp) if table_of(index) == name]
    comment = "A new table: no code uses it yet, so its locks block nothing."
    if existing := set(map(referred, foreign_keys(operation))) - comparison.created.keys():
        comment += f" The foreign key briefly blocks writes to {', '.join(sorted(existing))}."
    yield Change(
        Stage.TABLES,
        min(comparison.created) if comparison.is_first else comparison.related(name),
        f"create {name}",
        (Comment(comment), _without(operation, lambda key: key.use_alter), *indexes, *late),
        (*(create.reverse() for create in reversed(late)), operation.reverse()),
        locks=comparison.related(name),
    )


@rewrite.register
def drop_table(operation: ops.DropTableOp, comparison: Comparison) -> Changes:
    """Drop a table that no code uses."""
    name = table_of(operation)
    indexes = [index.reverse() for index in comparison.of(ops.DropIndexOp) if table_of(index) == name]
    order = list(comparison.dropped)
    earlier, later = order[: order.index(name)], order[order.index(name) + 1 :]
    of_later = [key for table in later for key in foreign_keys(comparison.dropped[table]) if referred(key) == name]
    restore, following = restored_table(comparison.connection, operation)
    change = Change(
        Stage.DROP_TABLES,
        name,
        f"drop {name}",
        (
            Comment("Drops the table and its rows, which no code uses."),
            *map(ops.DropConstraintOp.from_constraint, of_later),
            operation,
        ),
        (
            Comment("Restores the table without its rows."),
            _without(restore, lambda key: referred(key) in earlier),
            *following,
            *indexes,
            *map(_create, of_later),
        ),
        CONTRACT,
        danger=f"the table {name} and its rows are lost",
    )
    yield with_dependents(change, operation, comparison.dependents)


def _create(key: ForeignKeyConstraint) -> MigrateOperation:
    """A foreign key of two tables that hold no rows yet, so that nothing is scanned."""
    create = ops.CreateForeignKeyOp.from_constraint(key)
    create.kw.pop("use_alter", None)
    return with_name(create)


def _without(create: ops.CreateTableOp, leave_out: Callable[[ForeignKeyConstraint], bool]) -> ops.CreateTableOp:
    """The same without some of its foreign keys."""
    create = copy(create)
    create.columns = [
        item for item in create.columns if not (isinstance(item, ForeignKeyConstraint) and leave_out(item))
    ]
    return create
