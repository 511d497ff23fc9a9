"""The safe form of a column's new type: in place where the rows stay as they are, and else for somebody to decide."""

from dataclasses import replace
from typing import Any

from alembic.operations import MigrateOperation, ops
from sqlalchemy import types
from sqlalchemy.types import TypeEngine

from safe_migrations.autogenerate.comparison import Differences, alter, table_of
from safe_migrations.autogenerate.enum_types import enum_of
from safe_migrations.autogenerate.plan import Piece, Stage
from safe_migrations.autogenerate.rendering import ConvertColumnOp
from safe_migrations.ddl.column_changes import is_identity, keeps_rows, plain_type
from safe_migrations.postgres.sql import qualified
from safe_migrations.upgrade.phases import CONTRACT


def change_type(differences: Differences, operation: ops.AlterColumnOp) -> Piece:
    """Give a column another type.

    Args:
        differences: all of them.
        operation: what Alembic would do.
    """
    table, name = table_of(operation), operation.column_name
    before, after = plain_type(operation.existing_type), plain_type(operation.modify_type)  # type: ignore[arg-type]
    piece = Piece(
        Stage.COLUMNS,
        table,
        f"type of {table}.{name}",
        "This type holds all that the old one held, in the same form: no row is written. A statement that a connection "
        "has prepared before fails once.",
        (alter(operation, existing_type=before, modify_type=after),),
        (alter(operation, existing_type=after, modify_type=before),),
        "" if keeps_rows(after, before) else "Each row is read, and may be written anew, under ACCESS EXCLUSIVE.",
    )
    if keeps_rows(before, after):
        return piece
    default = differences.model(operation).c[name].server_default
    comment = "In one statement, for a small table, or while nobody uses it."
    if _changes_zone(before, after):
        comment += " The values are taken as UTC."
    return replace(
        piece,
        stage=Stage.TYPES,
        upgrade=_convert(differences, operation, (before, after), (operation.existing_server_default, default)),
        downgrade=_convert(differences, operation, (after, before), (default, operation.existing_server_default)),
        phase=CONTRACT,
        alone=True,
        question=(
            "Each row is written anew, under ACCESS EXCLUSIVE. Without that lock: add a column of the new type,",
            "let the code write both, fill it by a backfill, let the code read it, and drop the old one.",
        ),
        comment=comment,
        danger=f"{table} is written anew while nobody can read or write it, because {name} gets another type, and code "
        "that expects the one type fails with the other: stop the service, or go by a new column",
    )


def _convert(
    differences: Differences,
    operation: ops.AlterColumnOp,
    change: tuple[TypeEngine[Any], TypeEngine[Any]],
    defaults: tuple[Any, Any],
) -> tuple[MigrateOperation, ...]:
    """Change the type; a default of the old one, which would not fit, goes before, and the new one's comes after."""
    before, after = change
    using = _using(differences, operation.column_name, before, after)
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
    old, new = (None if is_identity(each) else each for each in defaults)
    without = (alter(operation, modify_server_default=None),) if old else ()
    again = (alter(operation, modify_server_default=new),) if new else ()
    return *without, convert, *again


def _using(differences: Differences, column: str, before: TypeEngine[Any], after: TypeEngine[Any]) -> str | None:
    """How a value becomes one of the new type, where PostgreSQL does not know by itself.

    A cast to a length would cut off what is too long, where the assignment, which comes after it, fails.
    """
    dialect = differences.connection.dialect
    quoted = qualified(dialect, column)
    if _changes_zone(before, after):
        return f"{quoted} AT TIME ZONE 'UTC'"
    if any(enum_of(each) is not None for each in (before, after)):
        return f"{quoted}::text::{after.compile(dialect)}" if enum_of(after) is not None else None
    of_text, to_text = (isinstance(each, types.String) for each in (before, after))
    of_truth, to_truth = (isinstance(each, types.Boolean) for each in (before, after))
    if (of_text and not to_text) or (of_truth != to_truth and not to_text):
        return f"{quoted}::{after.compile(dialect)}"
    return None


def _changes_zone(before: TypeEngine[Any], after: TypeEngine[Any]) -> bool:
    moments = isinstance(before, types.DateTime) and isinstance(after, types.DateTime)
    return moments and getattr(before, "timezone", False) != getattr(after, "timezone", False)
