"""The safe form of a column's new type: in place where no row changes, and otherwise a decision of the author."""

from dataclasses import replace
from typing import Any

from alembic.operations import MigrateOperation, ops
from sqlalchemy import types
from sqlalchemy.types import TypeEngine

from safe_migrations.autogenerate.column_types import enum_of, without_check
from safe_migrations.autogenerate.comparison import Comparison, alter, table_of
from safe_migrations.autogenerate.conversion import at_utc, cost_of, lost
from safe_migrations.autogenerate.plan import Change, Stage
from safe_migrations.autogenerate.rendering import Comment, ConvertColumnOp
from safe_migrations.ddl.column_changes import is_identity, keeps_rows, plain_type
from safe_migrations.postgres.sql import qualified
from safe_migrations.upgrade.phases import CONTRACT


def change_type(operation: ops.AlterColumnOp, comparison: Comparison) -> Change:
    """Give a column another type."""
    table, name = table_of(operation), operation.column_name
    before, after = plain_type(operation.existing_type), without_check(operation.modify_type)  # type: ignore[arg-type]
    if keeps_rows(before, after):
        return _widen(operation, comparison, before, after)
    default = comparison.model_column(operation).server_default
    upgrade = _convert(comparison, operation, (before, after), operation.existing_server_default, default)
    comments = ["In one statement: for a small table, or while no code uses it."]
    dangers = []
    price = cost_of(comparison.connection, upgrade)
    if cost := price.of(table):
        comments += [
            f"{cost[0].upper()}{cost[1:]} while holding ACCESS EXCLUSIVE. To avoid that: add a column of the new type,",
            "let the code write both, fill the new one by a backfill, let the code read it, and drop the old one.",
        ]
        dangers.append(f"the new type of {name} {cost} and blocks reads and writes until that is done")
    if price.rewrites and (loss := lost(before, after)):  # without a rewrite, the values do not change
        comments.append(f"Loses {loss}; a downgrade does not restore it.")
        dangers.append(f"{loss} of {table}.{name} may be lost, and a downgrade does not restore it")
    dangers.append("code that expects one type fails with the other: stop the service, or use a new column")
    downgrade = _convert(comparison, operation, (after, before), default, operation.existing_server_default)
    change = Change(Stage.TYPES, table, f"type of {table}.{name}", upgrade, downgrade, CONTRACT, alone=True)
    return change.with_question(comments, "; ".join(dangers))


def _widen(
    operation: ops.AlterColumnOp, comparison: Comparison, before: TypeEngine[Any], after: TypeEngine[Any]
) -> Change:
    """Give a column a type that stores all values in the same form; running code continues to work."""
    table, name = table_of(operation), operation.column_name
    widen = alter(operation, existing_type=before, modify_type=after)
    back = alter(operation, existing_type=after, modify_type=before)
    rewrites = Comment("Scans the table, and may rewrite it, while holding ACCESS EXCLUSIVE.")
    downgrade = (back,) if keeps_rows(after, before) else (rewrites, back)
    change = Change(Stage.COLUMNS, table, f"type of {table}.{name}", (widen,), downgrade)
    prepared = "A statement that a connection has prepared before fails once."
    cost = cost_of(comparison.connection, (widen,)).of(table)
    if not cost:
        metadata_only = Comment("Metadata only: the new type stores every value in the same form.")
        return replace(change, upgrade=(metadata_only, Comment(prepared), widen))
    return replace(change, alone=True).with_question(
        (
            f"No row is rewritten, but this {cost} while holding ACCESS EXCLUSIVE. To avoid that:",
            f"drop these indexes and checks of {name} before, and add them again after it. {prepared}",
        ),
        f"the new type of {name} {cost} and blocks reads and writes until that is done",
    )


def _convert(
    comparison: Comparison,
    operation: ops.AlterColumnOp,
    change: tuple[TypeEngine[Any], TypeEngine[Any]],
    old_default: Any,
    new_default: Any,
) -> tuple[MigrateOperation, ...]:
    """Change the type; the old type's default is dropped before, and the new type's set after."""
    before, after = change
    using = _using(comparison, operation.column_name, before, after)
    convert = alter(operation, existing_type=before, modify_type=after)
    if using is not None:
        convert = ConvertColumnOp(
            operation.table_name,
            operation.column_name,
            schema=operation.schema,
            existing_type=before,
            modify_type=after,
            postgresql_using=using,
        )
    old, new = (None if is_identity(default) else default for default in (old_default, new_default))
    drop_default = (alter(operation, modify_server_default=None),) if old else ()
    set_default = (alter(operation, modify_server_default=new),) if new else ()
    return *at_utc(before, after), *drop_default, convert, *set_default


def _using(comparison: Comparison, column: str, before: TypeEngine[Any], after: TypeEngine[Any]) -> str | None:
    """The expression that converts a value, where PostgreSQL has no assignment cast.

    A cast to a length would truncate a value that is too long; the assignment after the expression fails instead.
    """
    dialect = comparison.connection.dialect
    quoted = qualified(dialect, column)
    if any(enum_of(type_) is not None for type_ in (before, after)):
        return f"{quoted}::text::{after.compile(dialect)}" if enum_of(after) is not None else None
    of_text, to_text = (isinstance(type_, types.String) for type_ in (before, after))
    of_boolean, to_boolean = (isinstance(type_, types.Boolean) for type_ in (before, after))
    if (of_text and not to_text) or (of_boolean != to_boolean and not to_text):
        return f"{quoted}::{after.compile(dialect)}"
    return None
