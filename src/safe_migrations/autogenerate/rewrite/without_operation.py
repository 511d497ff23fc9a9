"""What Alembic has no operation for: computed columns, validity, and what can only be dropped and made again."""

from typing import Any

from alembic.operations import MigrateOperation, ops
from sqlalchemy import (
    CheckConstraint,
    Column,
    Computed,
    ForeignKeyConstraint,
    Index,
    UniqueConstraint,
)
from sqlalchemy.sql.elements import conv

from safe_migrations.autogenerate.comparison import Comparison, table_of
from safe_migrations.autogenerate.description_comparison import SchemaChange, by_name
from safe_migrations.autogenerate.descriptions import OBJECTS, Description
from safe_migrations.autogenerate.plan import Change, Changes, Stage
from safe_migrations.autogenerate.rendering import Comment, plain_sql
from safe_migrations.autogenerate.rewrite.comments import COMMENT, comment_on
from safe_migrations.autogenerate.rewrite.constraints import in_two_steps
from safe_migrations.autogenerate.rewrite.dispatch import METADATA_ONLY, rewrite
from safe_migrations.autogenerate.rewrite.schemas import CREATED_IN
from safe_migrations.ddl.constraints import ValidateConstraintOp
from safe_migrations.errors import MigrationError
from safe_migrations.postgres.connection import major_version
from safe_migrations.postgres.sql import qualified
from safe_migrations.upgrade.phases import CONTRACT, EXPAND


@rewrite.register
def change_schema(change: SchemaChange, comparison: Comparison) -> Changes:
    """Write a difference that only PostgreSQL's descriptions show, or refuse it by name."""
    difference = change.difference
    before, after = difference.database, difference.models
    if difference.kind == "computed":
        yield _change_computed(change, comparison)
    elif difference.kind == "sequence" and after:
        yield _write_sequence(change, comparison, before, after)
    elif difference.kind == "serial" and before and after:
        yield _change_sequence(change, before, after)
    elif difference.kind == COMMENT:
        yield _comment(change, comparison)
    elif difference.kind in OBJECTS and before and after and before.definition == after.definition:
        yield _validate(change)
    elif difference.kind in ("check", "foreign key") and before is None and after:
        yield from _add_constraint(change, comparison, after)
    elif difference.kind in OBJECTS:
        yield _make_again(change, comparison)
    else:
        raise _refusal(comparison)


def _refusal(comparison: Comparison) -> MigrationError:
    written = {"computed", "sequence", "serial", COMMENT, *OBJECTS}
    changes = [change for change in comparison.of(SchemaChange) if change.difference.kind not in written]
    listed = "\n".join(map(str, changes))
    return MigrationError(
        "Autogenerate has no safe form for a difference between the database and the models; no file was written. "
        f"Correct the models, or write these changes by hand, in a revision of their own:\n{listed}\n"
        "To create the file of that revision:\nalembic revision -m 'what changes'"
    )


def _change_sequence(change: SchemaChange, before: Description, after: Description) -> Change:
    """A new type of a serial column does not change how far its sequence counts."""
    sequence, _, old = before.definition.rpartition(" AS ")
    new = after.definition.rpartition(" AS ")[2]
    upgrade, downgrade = (plain_sql(f"ALTER SEQUENCE {sequence} AS {type_}") for type_ in (new, old))
    title = f"type of the sequence of {table_of(change)}.{change.difference.name}"
    return Change(Stage.TYPES, table_of(change), title, (Comment(METADATA_ONLY), *upgrade), downgrade)


def _write_sequence(
    change: SchemaChange, comparison: Comparison, before: Description | None, after: Description
) -> Change:
    """A sequence of the models' own, which comes before the columns that count with it."""
    name, title = qualified(comparison.connection.dialect, change.schema, change.table_name), table_of(change)
    if before is None:
        upgrade, downgrade = (f"CREATE SEQUENCE {name} {after.definition}", f"DROP SEQUENCE {name}")
    else:
        upgrade, downgrade = (f"ALTER SEQUENCE {name} {side.definition}" for side in (after, before))
    operations = Comment(METADATA_ONLY), *plain_sql(upgrade)
    operations[-1].info[CREATED_IN] = change.schema
    return Change(Stage.ENUMS, title, f"sequence {title}", operations, plain_sql(downgrade))


def _comment(change: SchemaChange, comparison: Comparison) -> Change:
    difference, table = change.difference, table_of(change)
    upgrade, downgrade = (
        comment_on(comparison, change.table_name, change.schema, difference.name, side.definition if side else None)
        for side in (difference.models, difference.database)
    )
    return Change(Stage.COLUMNS, table, f"comment on {difference.name}", (Comment(METADATA_ONLY), *upgrade), downgrade)


def _validate(change: SchemaChange) -> Change:
    """A constraint that was added NOT VALID, and whose validation is missing."""
    name, table = change.difference.name, table_of(change)
    return Change(
        Stage.VALIDATE,
        table,
        f"{name}, for all rows",
        (
            Comment("Scans the table without blocking reads or writes."),
            ValidateConstraintOp(name, change.table_name, change.schema),
        ),
        (Comment("safe: empty-downgrade because PostgreSQL can't undo a validation"),),
        CONTRACT,
        alone=True,
    )


def _add_constraint(change: SchemaChange, comparison: Comparison, constraint: Description) -> Changes:
    """A constraint that has a name in the database alone, which PostgreSQL gave it."""
    dialect, name, table = comparison.connection.dialect, conv(constraint.name), table_of(change)
    owner = qualified(dialect, change.schema, change.table_name)
    _, create = plain_sql(
        f"ALTER TABLE {owner} ADD CONSTRAINT {qualified(dialect, name)} {constraint.definition} NOT VALID"
    )
    yield from in_two_steps(
        str(name),
        create,
        ops.DropConstraintOp(name, change.table_name, schema=change.schema),
        ValidateConstraintOp(name, change.table_name, change.schema),
        table=table,
        comment=" Alembic has no operation for a constraint without a name.",
        phase=CONTRACT,
    )


def _make_again(change: SchemaChange, comparison: Comparison) -> Change:
    """Drop an index or a constraint, and create the other form, in one transaction."""
    difference, table = change.difference, table_of(change)
    before, after = difference.database, difference.models
    safe = Comment("safe: constraint-missing-not-valid because this constraint is built in one step")
    made = f"builds {difference.kind} {difference.name} while it blocks reads and writes of {table}"
    lost = f"nothing guarantees {difference.kind} {difference.name} any more: {before.definition if before else ''}"
    return Change(
        Stage.DROP_CONSTRAINTS,
        table,
        f"{difference.kind} {difference.name}",
        (*((safe,) if after and difference.kind != "index" else ()), *_replace(change, comparison, before, after)),
        _replace(change, comparison, after, before),
        CONTRACT,
        alone=True,
        danger=made if after else lost,
    )


def _replace(
    change: SchemaChange, comparison: Comparison, old: Description | None, new: Description | None
) -> tuple[MigrateOperation, ...]:
    dialect = comparison.connection.dialect
    table = qualified(dialect, change.schema, change.table_name)
    if change.difference.kind == "index":
        drop = f"DROP INDEX {qualified(dialect, change.schema, old.name)}" if old else ""
        unique, _, rest = new.definition.partition("USING ") if new else ("", "", "")
        create = f"CREATE {unique}INDEX {qualified(dialect, new.name)} ON {table} USING {rest}" if new else ""
        return tuple(operation for statement in (drop, create) if statement for operation in plain_sql(statement))
    actions = [f"DROP CONSTRAINT {qualified(dialect, old.name)}"] if old else []
    if new:
        actions.append(f"ADD CONSTRAINT {qualified(dialect, new.name)} {new.definition}")
    return plain_sql(f"ALTER TABLE {table} {', '.join(actions)}")


def _change_computed(change: SchemaChange, comparison: Comparison) -> Change:
    """A new expression in place where PostgreSQL can, the values of a column that becomes plain; else a new column."""
    before, after = change.difference.database, change.difference.models
    old, new = _expression(before), _expression(after)
    if old and not new and old[1] == "STORED":
        return _make_plain(change, comparison, old)
    if old and new and old[1] == new[1] and major_version(comparison.connection) >= 17:  # which has SET EXPRESSION
        return _set_expression(change, comparison, old, new)
    return _new_column(change, _title(change))


def _set_expression(change: SchemaChange, comparison: Comparison, old: tuple[str, str], new: tuple[str, str]) -> Change:
    table, name = table_of(change), change.difference.name
    upgrade, downgrade = (
        plain_sql(f"{_alter(change, comparison)} SET EXPRESSION AS ({expression})") for expression, _ in (new, old)
    )
    is_stored = new[1] == "STORED"
    danger = f"the new expression of {name} rewrites {table} and blocks reads and writes until the rewrite finishes"
    comment = "Rewrites the table while holding ACCESS EXCLUSIVE." if is_stored else METADATA_ONLY
    return Change(
        Stage.TYPES,
        table,
        _title(change),
        (Comment(comment), *upgrade),
        downgrade,
        CONTRACT,
        alone=True,
        danger=danger if is_stored else None,
    )


def _make_plain(change: SchemaChange, comparison: Comparison, old: tuple[str, str]) -> Change:
    """The new code writes the column, which keeps its values."""
    table, name, existing = table_of(change), change.difference.name, _column(change.existing)
    column = _column(change.column)
    default: tuple[MigrateOperation, ...] = ()
    if column.server_default is not None:
        default = (
            ops.AlterColumnOp(
                change.table_name, name, schema=change.schema, modify_server_default=column.server_default
            ),
        )
    return Change(
        Stage.COLUMNS,
        table,
        _title(change),
        (
            Comment("Metadata only: the column keeps its values. Expand, because the new code writes the column."),
            Comment("safe: contract-in-expand because the new code can't write the column before"),
            *plain_sql(f"{_alter(change, comparison)} DROP EXPRESSION"),
            *default,
        ),
        (Comment("Computes the values again; those that code has written are lost."), *_drop_and_add(change, existing)),
        EXPAND,
        alone=True,
        danger=f"PostgreSQL no longer computes {table}.{name}, which the running code does not write",
    )


def _new_column(change: SchemaChange, title: str) -> Change:
    table, name = table_of(change), change.difference.name
    existing, column = _column(change.existing), _column(change.column)
    lost = "its values are lost" if existing.computed is None else "its values are computed again"
    return Change(
        Stage.TYPES,
        table,
        title,
        (Comment("PostgreSQL can't change this column in place."), *_drop_and_add(change, column, is_upgrade=True)),
        (Comment("Restores the column without its data."), *_drop_and_add(change, existing)),
        CONTRACT,
        alone=True,
        danger=f"{table}.{name} is dropped and added again: {lost}; this blocks reads and writes of {table} until all "
        "values and the indexes of the column are written",
    )


def _drop_and_add(
    change: SchemaChange, column: Column[Any], *, is_upgrade: bool = False
) -> tuple[MigrateOperation, ...]:
    """A new column, with the indexes and constraints that PostgreSQL drops with the old column."""
    computed = [Computed(column.computed.sqltext, persisted=column.computed.persisted)] if column.computed else []
    add = Column(
        column.name,
        column.type,
        *computed,
        nullable=column.nullable if computed else True,
        server_default=None if computed else column.server_default,
        comment=column.comment,
    )
    operations: list[MigrateOperation] = [
        ops.DropColumnOp(change.table_name, column.name, schema=change.schema),
        ops.AddColumnOp(change.table_name, add, schema=change.schema),
    ]
    for kind, rule in _WITHOUT_CONCURRENCY.items():
        for part in _parts(column, kind):
            if is_upgrade:
                operations.append(Comment(f"safe: {rule} because the table is locked already"))
            operations.append(
                ops.CreateIndexOp.from_index(part) if kind is Index else ops.AddConstraintOp.from_constraint(part)
            )
    return tuple(operations)


_WITHOUT_CONCURRENCY: dict[type[Any], str] = {
    Index: "require-concurrent-index-creation",
    UniqueConstraint: "disallowed-unique-constraint",
    CheckConstraint: "constraint-missing-not-valid",
    ForeignKeyConstraint: "adding-foreign-key-constraint",
}


def _parts(column: Column[Any], kind: type[Any]) -> list[Any]:
    """The indexes or constraints of a column."""
    parts: list[Any] = [*column.table.indexes, *column.table.constraints]
    return by_name(part for part in parts if isinstance(part, kind) and column.name in _names(part))


def _names(part: Any) -> set[str]:
    return {column.name for column in part.columns}


def _column(column: Column[Any] | None) -> Column[Any]:
    assert column is not None  # noqa: S101  # a difference of a column has both
    return column


def _expression(description: Description | None) -> tuple[str, str] | None:
    if description is None:
        return None
    expression, _, kind = description.definition.rpartition(" ")
    return expression, kind


def _title(change: SchemaChange) -> str:
    what = "new expression" if change.difference.models else "not computed"
    return f"{table_of(change)}.{change.difference.name}: {what}"


def _alter(change: SchemaChange, comparison: Comparison) -> str:
    dialect = comparison.connection.dialect
    table = qualified(dialect, change.schema, change.table_name)
    return f"ALTER TABLE {table} ALTER COLUMN {qualified(dialect, change.difference.name)}"
