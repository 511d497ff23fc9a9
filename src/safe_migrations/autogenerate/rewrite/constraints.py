"""The safe form of indexes and constraints: built and checked without blocking reads or writes."""

from typing import Any

from alembic.operations import MigrateOperation, ops
from sqlalchemy.sql.elements import conv

from safe_migrations.autogenerate.comparison import Comparison, name_of, names_of, table_of
from safe_migrations.autogenerate.dependents import with_dependents
from safe_migrations.autogenerate.plan import Change, Changes, Stage
from safe_migrations.autogenerate.rendering import Comment
from safe_migrations.autogenerate.rewrite.dispatch import rewrite
from safe_migrations.autogenerate.rewrite.guarantees import (
    danger_of_replacing,
    has_successor,
    is_unique,
    without_unique,
)
from safe_migrations.ddl.constraints import CreateUniqueConstraintUsingIndexOp, ValidateConstraintOp
from safe_migrations.ddl.indexes import CreateIndexConcurrentlyOp, DropIndexConcurrentlyOp
from safe_migrations.postgres.connection import major_version
from safe_migrations.postgres.sql import qualified, short_name
from safe_migrations.upgrade.phases import CONTRACT, EXPAND

_SCAN = (
    Comment("Scans the table without blocking reads or writes; in a transaction of its own, so that no"),
    Comment("stronger lock is held."),
)


@rewrite.register
def create_index(operation: ops.CreateIndexOp, comparison: Comparison) -> Changes:
    """Build an index without blocking writes; a new table creates its own."""
    if table_of(operation) in comparison.created:
        return
    if (old := comparison.replaced.get(name_of(operation))) is not None:
        yield from _replace_index(comparison, operation, old.reverse())
        return
    how = "for one partition after the other" if comparison.is_partitioned(operation) else "without blocking writes"
    yield Change(
        Stage.INDEXES,
        table_of(operation),
        f"index {operation.index_name}",
        (
            Comment(f"Built CONCURRENTLY, {how}."),
            _build(operation),
        ),
        (_remove(operation),),
        comparison.phase_of_building(operation, operation.to_index().columns),
        alone=True,
    )


def _replace_index(
    comparison: Comparison, new: ops.CreateIndexOp, old: ops.CreateIndexOp | ops.CreateUniqueConstraintOp
) -> Changes:
    """Under another name first, so that one of the two indexes always exists."""
    table, name = table_of(new), str(new.index_name)
    temporary, previous = (conv(short_name(f"{name}_{suffix}")) for suffix in ("new", "old"))
    build_phase = comparison.phase_of_building(new, new.to_index().columns)
    yield Change(
        Stage.INDEXES,
        table,
        f"index {temporary}",
        (Comment(f"Built CONCURRENTLY beside {name}, which it will replace."), _build(new, temporary)),
        (_remove(new, temporary),),
        build_phase,
        alone=True,
    )
    yield Change(
        Stage.DROP_CONSTRAINTS,
        table,
        f"{name} replaced",
        (
            Comment("Drops the old index, and gives its name to the new one."),
            _remove_unique(old) if isinstance(old, ops.CreateUniqueConstraintOp) else _remove(old),
            *_rename_index(comparison, new, temporary, name),
        ),
        (
            _build(_index_of(old), previous),
            *_rename_index(comparison, new, name, temporary),
            *(
                (_attach(old, previous),)
                if isinstance(old, ops.CreateUniqueConstraintOp)
                else _rename_index(comparison, new, previous, name)
            ),
        ),
        build_phase if is_unique(old) else CONTRACT,
        alone=True,
        danger=danger_of_replacing(new, old),
    )


def _rename_index(
    comparison: Comparison, operation: ops.CreateIndexOp, before: str, after: str
) -> tuple[MigrateOperation, ...]:
    dialect = comparison.connection.dialect
    index = qualified(dialect, operation.schema, before)
    rename = ops.ExecuteSQLOp(f"ALTER INDEX {index} RENAME TO {qualified(dialect, after)}")
    return Comment("Alembic has no operation that renames an index."), rename


@rewrite.register
def drop_index(operation: ops.DropIndexOp, comparison: Comparison) -> Changes:
    """Drop an index without blocking reads or writes."""
    if table_of(operation) in comparison.dropped or name_of(operation) in comparison.replaced:
        return
    index = operation.reverse()
    phase = CONTRACT
    if index.unique and not has_successor(comparison, index):
        phase = comparison.phase_of_dropping(operation, index.to_index().columns.keys())
    comment = "Dropped CONCURRENTLY, without blocking reads or writes"
    comment += "." if phase == EXPAND else ", when no code needs it any more."
    yield Change(
        Stage.UNIQUE if phase == EXPAND else Stage.DROP_CONSTRAINTS,
        table_of(operation),
        f"drop index {operation.index_name}",
        (Comment(comment), _remove(index)),
        (_build(index),),
        phase,
        alone=True,
        danger=without_unique(index.columns, operation.index_name) if phase == EXPAND else None,
    )


@rewrite.register
def create_unique(operation: ops.CreateUniqueConstraintOp, comparison: Comparison) -> Changes:
    """Build the index first, then make it a constraint."""
    dropped = comparison.replaced.get(name_of(operation))
    if comparison.is_partitioned(operation):
        danger = f"builds an index of each partition of {table_of(operation)}, which blocks writes until it is complete"
        phase = comparison.phase_of_building(operation, operation.to_constraint().columns)
        yield _at_once(Stage.UNIQUE, operation, dropped, phase, "disallowed-unique-constraint", "builds", danger)
        return
    old = dropped.reverse() if dropped is not None else None
    yield Change(
        Stage.UNIQUE,
        table_of(operation),
        f"unique {operation.constraint_name}",
        (
            Comment("The index is built CONCURRENTLY, without blocking writes; then the constraint adopts it."),
            Comment("As early as possible, because the new code may rely on it (ON CONFLICT)."),
            *_unique(operation, old),
        ),
        _unique(old, operation, comparison) if old is not None else (operation.reverse(),),
        comparison.phase_of_building(operation, operation.to_constraint().columns),
        alone=True,
        danger=danger_of_replacing(operation, old),
    )


@rewrite.register
def create_constraint(
    operation: ops.CreateForeignKeyOp | ops.CreateCheckConstraintOp, comparison: Comparison
) -> Changes:
    """Check new rows first, then existing ones."""
    table, name = table_of(operation), conv(str(operation.constraint_name))
    old = comparison.replaced.get(name_of(operation))
    columns, referent = [], names_of(operation)[0]
    if isinstance(operation, ops.CreateForeignKeyOp):
        columns, referent = operation.local_cols, operation.referent_table
    if columns and major_version(comparison.connection) < 18 and comparison.is_partitioned(operation):
        danger = f"scans {table} while writes to {table} and {referent} wait"
        yield _at_once(Stage.NOT_VALID, operation, old, CONTRACT, "adding-foreign-key-constraint", "scans", danger)
        return
    new = table in comparison.created or (
        bool(columns) and all((table, column) in comparison.added for column in columns)
    )
    yield from in_two_steps(
        str(name),
        _not_valid(operation),
        operation.reverse(),
        ValidateConstraintOp(name, *names_of(operation)),
        table=table,
        locks="" if referent == names_of(operation)[0] else referent,
        old=() if old is None else (old,),
        comment="" if new else " Contract, because the running code may write rows that violate it.",
        phase=EXPAND if new and old is None else CONTRACT,
    )


def _at_once(stage: Stage, operation: Any, old: Any, phase: str, rule: str, does: str, danger: str) -> Change:
    """A constraint of a partitioned table, which takes no USING INDEX, and no NOT VALID before PostgreSQL 18."""
    return Change(
        stage,
        table_of(operation),
        str(operation.constraint_name),
        (
            Comment(
                f"Where a partition has such a constraint, PostgreSQL attaches it and {does} nothing. First add it to"
            ),
            Comment(
                "each large partition, in revisions of their own, in the form for tables that are not partitioned."
            ),
            Comment(f"safe: {rule} because a partitioned table does not take the usual form"),
            *filter(None, (old, operation)),
        ),
        (operation.reverse(), *((old.reverse(),) if old is not None else ())),
        phase,
        alone=True,
        danger=danger,
    )


def in_two_steps(
    title: str,
    create: MigrateOperation,
    drop: MigrateOperation | None,
    validate: ValidateConstraintOp,
    *,
    table: str,
    old: tuple[Any, ...] = (),
    comment: str = "",
    phase: str,
    **first: Any,
) -> Changes:
    """A constraint for new rows, then, in a transaction of its own, for existing rows.

    Args:
        drop: drops it, unless a later step has dropped it before a downgrade.
        old: drops the constraint that it replaces.
        comment: follows the comment of the first change.
        first: more of the first change.
    """
    yield Change(
        Stage.NOT_VALID,
        table,
        f"{title}, for new rows",
        (Comment(f"NOT VALID: checks new rows only, so no rows are scanned under the lock.{comment}"), *old, create),
        (*((drop,) if drop else ()), *(dropped.reverse() for dropped in old)),
        phase,
        **first,
    )
    yield Change(
        Stage.VALIDATE,
        table,
        f"{title}, for all rows",
        (*_SCAN, validate),
        (),
        phase,
    )


@rewrite.register
def drop_constraint(operation: ops.DropConstraintOp, comparison: Comparison) -> Changes:
    """Drop a constraint in the phase in which no code needs it."""
    if name_of(operation) in comparison.replaced:
        return
    create: Any = operation.reverse()
    unique = isinstance(create, ops.CreateUniqueConstraintOp)
    phase = CONTRACT
    if not has_successor(comparison, create):
        phase = comparison.phase_of_dropping(operation, create.to_constraint().columns.keys())
    expand = phase == EXPAND
    reason = (
        "Expand, because the new code may write rows that violate it." if expand else "No code needs this constraint."
    )
    change = Change(
        (Stage.UNIQUE if unique else Stage.COLUMNS) if expand else Stage.DROP_CONSTRAINTS,
        table_of(operation),
        f"drop {operation.constraint_name}",
        (Comment(f"Metadata only. {reason}"), operation),
        _unique(create, None) if unique and not comparison.is_partitioned(operation) else (create,),
        phase,
        alone=unique,
        danger=without_unique(create.columns, operation.constraint_name) if unique and expand else None,
    )
    yield with_dependents(change, operation, comparison.dependents)


def _build(index: ops.CreateIndexOp, name: str | None = None) -> CreateIndexConcurrentlyOp:
    options = {"columns": list(index.columns), "unique": index.unique, **index.kw}
    return CreateIndexConcurrentlyOp(conv(name or str(index.index_name)), index.table_name, index.schema, **options)


def _remove(index: ops.CreateIndexOp, name: str | None = None) -> DropIndexConcurrentlyOp:
    return DropIndexConcurrentlyOp(conv(name or str(index.index_name)), index.table_name, index.schema)


def _unique(new: Any, old: Any | None, comparison: Comparison | None = None) -> tuple[MigrateOperation, ...]:
    """Operations that make a unique constraint or index, and drop the one that it replaces."""
    index = _index_of(new)
    name = str(index.index_name)
    temporary = name if old is None else short_name(f"{name}_new")
    drop: tuple[MigrateOperation, ...] = ()
    if old is not None:
        drop = (_remove(old) if isinstance(old, ops.CreateIndexOp) else _remove_unique(old),)
    if isinstance(new, ops.CreateIndexOp) and comparison is not None:
        return _build(index, temporary), *drop, *_rename_index(comparison, new, temporary, name)
    return _build(index, temporary), *drop, _attach(new, temporary)


def _index_of(operation: Any) -> ops.CreateIndexOp:
    """The index, or the index of a unique constraint."""
    if isinstance(operation, ops.CreateIndexOp):
        return operation
    options = {key: value for key, value in operation.kw.items() if key.startswith("postgresql_") and value}
    name, columns = str(operation.constraint_name), operation.columns
    return ops.CreateIndexOp(name, operation.table_name, columns, schema=operation.schema, unique=True, **options)


def _attach(constraint: Any, index_name: str) -> CreateUniqueConstraintUsingIndexOp:
    name, deferring = str(constraint.constraint_name), map(constraint.kw.get, ("deferrable", "initially"))
    index = index_name if index_name != name else None
    return CreateUniqueConstraintUsingIndexOp(name, constraint.table_name, constraint.schema, index, *deferring)


def _remove_unique(constraint: Any) -> ops.DropConstraintOp:
    name = conv(str(constraint.constraint_name))
    return ops.DropConstraintOp(name, constraint.table_name, "unique", schema=constraint.schema)


def _not_valid(operation: Any) -> Any:
    """The same foreign key or check as NOT VALID."""
    keyword = {**operation.kw, "postgresql_not_valid": True}
    name = conv(str(operation.constraint_name))
    if isinstance(operation, ops.CreateForeignKeyOp):
        tables = operation.source_table, operation.referent_table
        return ops.CreateForeignKeyOp(name, *tables, operation.local_cols, operation.remote_cols, **keyword)
    return ops.CreateCheckConstraintOp(
        name, operation.table_name, operation.condition, schema=operation.schema, **keyword
    )
