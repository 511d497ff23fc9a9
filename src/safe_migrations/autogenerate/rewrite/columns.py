"""The safe form of changes of columns: no row is read or written under a lock that blocks other sessions."""

from typing import Any

from alembic.operations import MigrateOperation, ops
from sqlalchemy import Column
from sqlalchemy.sql.elements import conv

from safe_migrations.autogenerate.column_types import without_check
from safe_migrations.autogenerate.comparison import Comparison, alter, table_of
from safe_migrations.autogenerate.dependents import with_dependents
from safe_migrations.autogenerate.new_backfill import NewBackfill
from safe_migrations.autogenerate.plan import Change, Changes, Stage
from safe_migrations.autogenerate.rendering import Comment
from safe_migrations.autogenerate.rewrite.constraints import in_two_steps
from safe_migrations.autogenerate.rewrite.defaults import change_default
from safe_migrations.autogenerate.rewrite.dispatch import METADATA_ONLY, rewrite
from safe_migrations.autogenerate.rewrite.types import change_type
from safe_migrations.autogenerate.values import is_unique
from safe_migrations.ddl.column_changes import default_text, is_identity, is_volatile, writes_rows
from safe_migrations.ddl.constraints import ValidateConstraintOp
from safe_migrations.postgres.sql import qualified, short_name
from safe_migrations.upgrade.phases import CONTRACT

_LITERALS = (str, int, float)  # whose repr() is valid in a file


@rewrite.register
def add_column(operation: ops.AddColumnOp, comparison: Comparison) -> Changes:
    """Add a column without rewriting the table; a backfill fills it, and NOT NULL comes last."""
    table, column = table_of(operation), operation.column
    title, drop = f"add {table}.{column.name}", (operation.reverse(),)
    if writes_rows(column):
        danger = f"the computation of {column.name} rewrites {table} and blocks reads and writes until it finishes"
        add = Comment("Rewrites the table while holding ACCESS EXCLUSIVE."), operation
        yield Change(Stage.COLUMNS, table, title, add, drop, alone=True, danger=danger)
        return
    default = default_text(comparison.connection, column)
    volatile = default is not None and is_volatile(comparison.connection, default)
    needs_value = not column.nullable and (default is None or volatile)
    upgrade: tuple[MigrateOperation, ...]
    if needs_value or volatile:
        comment = Comment("Added empty: a value for each row would rewrite the table, blocking reads and writes.")
        upgrade = comment, _add(operation, True, None)
    else:
        upgrade = Comment(METADATA_ONLY), _add(operation, column.nullable, column.server_default)
    if volatile:
        upgrade = *upgrade, alter(operation, modify_server_default=column.server_default)
        title += " with its default"
    source, backfill = comparison.renamed.get((table, column.name)), None
    if needs_value or volatile or source:
        backfill = _backfill(comparison, operation, column, source, default if volatile else None)
    if source is not None:
        upgrade = *_releases(table, source, column, backfill), *upgrade
    yield Change(Stage.COLUMNS, table, title, upgrade, drop)
    if needs_value:
        yield from _set_not_null(comparison, operation, column, backfill)


def _add(operation: ops.AddColumnOp, nullable: bool | None, default: Any) -> ops.AddColumnOp:
    """Add the column alone: its indexes and foreign keys are operations of their own."""
    model = operation.column
    type_ = without_check(model.type)
    column = Column(model.name, type_, nullable=nullable, server_default=default, comment=model.comment)
    return ops.AddColumnOp(operation.table_name, column, schema=operation.schema)


def _backfill(
    comparison: Comparison, operation: MigrateOperation, column: Column[Any], source: str | None, default: str | None
) -> NewBackfill | None:
    """The backfill of a column; None for a table without a primary key."""
    table = comparison.tables[column.table.key]
    key = tuple(part.name for part in table.primary_key)
    if not key or column.name in key:
        return None
    value, where = None, f"rows.c[{column.name!r}].is_(None)"
    reason = f"Fills {table_of(operation)}.{column.name} in the rows in which it is NULL."
    if source is not None:
        value = old = f"rows.c[{source!r}]"
        if column.server_default is not None:  # which existing rows have
            where = f"rows.c[{column.name!r}].is_distinct_from({old}) & {old}.is_not(None)"
            reason = f"Copies {source} into {table_of(operation)}.{column.name}, in place of its default."
        elif column.nullable:
            where += f" & {old}.is_not(None)"
    elif default is not None:
        value = f"sa.literal_column({default!r})"
    elif isinstance(own := getattr(column.default, "arg", None), _LITERALS) and not is_unique(column):
        value = f"sa.literal({own!r})"
    elif (sql := comparison.values(table_of(operation), column)) is not None:
        value = f"sa.literal_column({sql!r})"
        if not sql.startswith("'"):  # with an expression that is NULL for a row, the backfill would never end
            where += f" & {value}.is_not(None)"
    backfill = NewBackfill(table.name, table.schema, key, column.name, value, where, reason, source)
    comparison.backfills.append(backfill)
    return backfill


def _set_not_null(comparison: Comparison, operation: Any, column: Column[Any], backfill: NewBackfill | None) -> Changes:
    table, name = table_of(operation), column.name
    check = conv(short_name(f"ck_{operation.table_name}_{name}_not_null"))
    quoted = qualified(comparison.connection.dialect, name).replace(":", r"\:")
    create = ops.CreateCheckConstraintOp(
        check, operation.table_name, f"{quoted} IS NOT NULL", schema=operation.schema, postgresql_not_valid=True
    )
    drop = ops.DropConstraintOp(check, operation.table_name, type_="check", schema=operation.schema)
    title = f"{table}.{name} not null"
    danger = f"no backfill can fill {name}, because {table} has no primary key: fill it in all rows before"
    yield from in_two_steps(
        title,
        create,
        None,
        ValidateConstraintOp(check, operation.table_name, operation.schema),
        table=table,
        phase=CONTRACT,
        backfill=backfill.name if backfill else None,
        danger=None if backfill else danger,
    )
    yield Change(
        Stage.ENFORCE,
        table,
        title,
        (
            Comment("The valid CHECK spares SET NOT NULL its scan."),
            alter(operation, modify_nullable=False),
            drop,
        ),
        (alter(operation, modify_nullable=True),),
        CONTRACT,
    )


@rewrite.register
def drop_column(operation: ops.DropColumnOp, comparison: Comparison) -> Changes:
    """Drop a column that no code uses."""
    table, name = table_of(operation), operation.column_name
    column = comparison.removed[table, name]
    restore: MigrateOperation = operation.reverse()
    comment = "Restores the column without its data."
    if not column.nullable and column.server_default is None and column.identity is None:
        yield _drop_not_null(operation, "Expand, because the new code does not know the column and inserts NULL.")
        empty = Column(name, column.type, nullable=True, comment=column.comment)
        restore = ops.AddColumnOp(operation.table_name, empty, schema=operation.schema)
        comment += " Fill it before the next downgrade makes it NOT NULL."
    change = Change(
        Stage.DROP_COLUMNS,
        table,
        f"drop {table}.{name}",
        (Comment("Drops the column and its data, which no code uses."), operation),
        (Comment(comment), restore),
        CONTRACT,
        danger=f"the column {table}.{name} and its data are lost",
    )
    yield with_dependents(change, operation, comparison.dependents)


def _drop_not_null(operation: ops.DropColumnOp | ops.AlterColumnOp, reason: str) -> Change:
    table, name = table_of(operation), operation.column_name
    return Change(
        Stage.COLUMNS,
        table,
        f"{table}.{name} may be null",
        (Comment(f"Metadata only. {reason}"), alter(operation, modify_nullable=True)),
        (
            Comment(f"Fails if a row is NULL; first run: UPDATE {table} …"),
            alter(operation, modify_nullable=False),
        ),
    )


@rewrite.register
def alter_column(operation: ops.AlterColumnOp, comparison: Comparison) -> Changes:
    """Change type, default, comment and NOT NULL, each in its safe form."""
    table, name = table_of(operation), operation.column_name
    converted = (table, name) in comparison.converted
    if operation.modify_type is not None:
        yield with_dependents(change_type(operation, comparison), operation, comparison.dependents)
    if operation.modify_nullable is True:
        yield _drop_not_null(operation, "Expand, because the new code may insert NULL.")
    if operation.modify_server_default is not False and (not converted or is_identity(operation.modify_server_default)):
        yield change_default(operation, comparison)
    if operation.modify_comment is not False:
        comments = operation.modify_comment, operation.existing_comment
        upgrade, downgrade = (alter(operation, modify_comment=comment) for comment in comments)
        title = f"comment on {table}.{name}"
        yield Change(Stage.COLUMNS, table, title, (Comment(METADATA_ONLY), upgrade), (downgrade,))
    if operation.modify_nullable is False:
        column = comparison.model_column(operation)
        default = default_text(comparison.connection, column)
        yield from _set_not_null(comparison, operation, column, _backfill(comparison, operation, column, None, default))


def _releases(table: str, old: str, column: Column[Any], backfill: NewBackfill | None) -> list[Comment]:
    """What a rename asks of the code of three releases, of which this revision belongs to the first."""
    new = column.name
    copies = f"The backfill {backfill.name} copies the values." if backfill else "Copy the values of all rows."
    lines = [
        f"Renames {table}.{old} to {new} in three releases, of which this is the first:",
        f"1. Keep {old} in the models. The code writes both columns, and reads {old}.",
        f"   {copies}",
        f"2. The code reads {new}, and still writes both columns.",
        f"3. Remove {old} from the models and the code; autogenerate then drops the column.",
    ]
    if backfill is not None and column.nullable:
        lines.append(f"   The revision that drops it declares requires_backfill = {backfill.name!r}.")
    return list(map(Comment, lines))
