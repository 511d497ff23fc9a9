"""The safe form of a column's new default, or of another way to count."""

from dataclasses import replace
from typing import Any

from alembic.operations import MigrateOperation, ops
from sqlalchemy import DefaultClause, func, select, text

from safe_migrations.column_changes import is_identity
from safe_migrations.differences import Differences, alter, table_of
from safe_migrations.phases import CONTRACT
from safe_migrations.rendering import Comment
from safe_migrations.series import Piece, Stage


def change_default(differences: Differences, operation: ops.AlterColumnOp) -> Piece:
    """Give a column another default, or none, or make it count by an identity.

    Args:
        differences: all of them.
        operation: what Alembic would do.
    """
    table, name = table_of(operation), operation.column_name
    before, after = operation.existing_server_default or None, operation.modify_server_default
    if is_identity(before) or is_identity(after):
        return _change_identity(differences, operation, before, after)
    piece = Piece(
        Stage.COLUMNS,
        table,
        f"{table}.{name} with{'' if after else 'out'} a default",
        "It takes a moment: only rows to come have another default.",
        (alter(operation, modify_server_default=after),),
        (alter(operation, modify_server_default=before),),
    )
    if after is not None:
        return piece
    comment = f"{piece.comment} The code that runs may still rely on it, so it goes afterwards."
    return replace(piece, phase=CONTRACT, comment=comment)


def _change_identity(differences: Differences, operation: ops.AlterColumnOp, before: Any, after: Any) -> Piece:
    """What was there goes first: PostgreSQL has no default beside an identity."""
    table, name = table_of(operation), operation.column_name
    serial = _serial(differences, operation)
    return Piece(
        Stage.COLUMNS,
        table,
        f"{table}.{name} counts in another way",
        "It takes a moment. PostgreSQL counts from 1 unless told: Identity(start=…), beyond what is there.",
        (*_without(differences, operation, before, serial), *_with(differences, operation, after, None)),
        (*_without(differences, operation, after, None), *_with(differences, operation, before, serial)),
        phase=CONTRACT,
        alone=True,
        danger=f"{table}.{name} counts from another start: without the right one, inserts fail",
    )


def _without(
    differences: Differences, operation: ops.AlterColumnOp, default: Any, serial: str | None
) -> tuple[MigrateOperation, ...]:
    if is_identity(default):
        return _execute("ALTER TABLE {table} ALTER COLUMN {column} DROP IDENTITY", differences, operation)
    drop = alter(operation, modify_server_default=None)
    return (drop, *_execute(f"DROP SEQUENCE {serial}", differences, operation)) if serial else (drop,)


def _with(
    differences: Differences, operation: ops.AlterColumnOp, default: Any, serial: str | None
) -> tuple[MigrateOperation, ...]:
    if serial is not None:
        create = _execute(f"CREATE SEQUENCE {serial} OWNED BY {{table}}.{{column}}", differences, operation)
        return *create, alter(operation, modify_server_default=DefaultClause(text(f"nextval('{serial}')")))
    return (alter(operation, modify_server_default=default),) if default is not None else ()


def _execute(statement: str, differences: Differences, operation: ops.AlterColumnOp) -> tuple[MigrateOperation, ...]:
    names = {"table": _quoted(differences, operation), "column": _quote(differences, operation.column_name)}
    return Comment("Alembic renders no operation that does it."), ops.ExecuteSQLOp(statement.format(**names))


def _serial(differences: Differences, operation: ops.AlterColumnOp) -> str | None:
    """The sequence of a serial column, which Alembic does not see."""
    sequence = func.pg_get_serial_sequence(_quoted(differences, operation), operation.column_name)
    name: str | None = differences.connection.scalar(select(sequence))
    return name if not is_identity(operation.existing_server_default) else None


def _quoted(differences: Differences, operation: ops.AlterColumnOp) -> str:
    return ".".join(_quote(differences, part) for part in (operation.schema, operation.table_name) if part)


def _quote(differences: Differences, name: str) -> str:
    return differences.connection.dialect.identifier_preparer.quote(name)
