"""The safe form of tables that are created and dropped."""

from collections.abc import Callable
from copy import copy

from alembic.operations import MigrateOperation, ops
from sqlalchemy import ForeignKeyConstraint

from safe_migrations.autogenerate.comparison import Comparison, foreign_keys, referred, shape, table_of, with_name
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
    change = Change(
        Stage.TABLES,
        min(comparison.created) if comparison.is_first else comparison.related(name),
        f"create {name}",
        (Comment(comment), _without(operation, lambda key: key.use_alter), *indexes, *late),
        (*(create.reverse() for create in reversed(late)), operation.reverse()),
        locks=comparison.related(name),
    )
    alike = [table for table, dropped in comparison.dropped.items() if shape(dropped) == shape(operation)]
    yield _ask_whether_renamed(change, alike[0], operation) if len(alike) == 1 else change


@rewrite.register
def drop_table(operation: ops.DropTableOp, comparison: Comparison) -> Changes:
    """Drop a table when no code uses it any more."""
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
            Comment("Drops the table and its rows, which no code uses any more."),
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


def _ask_whether_renamed(change: Change, old: str, operation: ops.CreateTableOp) -> Change:
    new = table_of(operation)
    schema = f", schema={operation.schema!r}" if operation.schema else ""
    rename = f'op.rename_table("{old.rpartition(".")[2]}", "{operation.table_name}"{schema})'
    return change.with_question(
        (
            f"{old} is dropped and {new} is created with the same columns: is this a rename?",
            f"- Yes, and no running code uses it: write {rename} here, with",
            "  `safe: contract-in-expand because no code uses it` in a comment above, and the reverse in downgrade().",
            "  Delete the later files of this change. Then run migrate-rebase, which corrects HEAD, migrate-upgrade,",
            "  and migrate-revision for the other differences.",
            "- Yes, and running code uses it: keep this file, let the new code write both tables, and copy the rows",
            "  (INSERT … SELECT, in batches) before the old table is dropped.",
            "- No: nothing to do.",
        ),
        f"a later revision of this change drops the table {old}, and {new} starts empty",
    )
