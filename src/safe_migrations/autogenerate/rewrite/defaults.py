"""The safe form of a column's new default, or of another way to count."""

from dataclasses import replace
from typing import Any

from alembic.operations import MigrateOperation, ops
from sqlalchemy import ColumnElement, DefaultClause, column, func, select, table, text

from safe_migrations.autogenerate.comparison import Differences, alter, table_of
from safe_migrations.autogenerate.enum_changes import VALUES_ADDED, EnumChangeOp
from safe_migrations.autogenerate.enum_types import enum_of
from safe_migrations.autogenerate.plan import Piece, Stage
from safe_migrations.autogenerate.rendering import Comment
from safe_migrations.ddl.column_changes import is_identity
from safe_migrations.postgres.sql import qualified
from safe_migrations.upgrade.phases import CONTRACT


def change_default(differences: Differences, operation: ops.AlterColumnOp) -> Piece:
    """Give a column another default, or none, or make it count by an identity.

    Args:
        differences: all of them.
        operation: what Alembic would do.
    """
    subject = f"{table_of(operation)}.{operation.column_name}"
    before, after = operation.existing_server_default or None, operation.modify_server_default
    if is_identity(before) or is_identity(after):
        return _change_identity(differences, operation, before, after)
    piece = Piece(
        Stage.COLUMNS,
        table_of(operation),
        f"{subject} with{'' if after else 'out'} a default",
        "It takes a moment: only rows to come have another default.",
        (alter(operation, modify_server_default=after),),
        (alter(operation, modify_server_default=before),),
    )
    if after is not None and not _names_new_value(differences, operation):
        return piece
    reason = "may still rely on it" if after is None else "does not know the value that it names"
    comment = f"{piece.comment} The code that runs {reason}, so it {'goes' if after is None else 'comes'} afterwards."
    return replace(piece, phase=CONTRACT, comment=comment)


def _names_new_value(differences: Differences, operation: ops.AlterColumnOp) -> bool:
    """Whether the default may be a value that this change adds to the column's enum."""
    enum = enum_of(differences.model(operation).c[operation.column_name].type)
    changes = [each.change for each in differences.of(EnumChangeOp)]
    return enum is not None and any(each.name == enum.name and each.kind == VALUES_ADDED for each in changes)


def _change_identity(differences: Differences, operation: ops.AlterColumnOp, before: Any, after: Any) -> Piece:
    """What was there goes first: PostgreSQL has no default beside an identity."""
    serial = _serial(differences, operation)
    sql = _Statements(differences, operation)
    return Piece(
        Stage.COLUMNS,
        table_of(operation),
        f"{table_of(operation)}.{operation.column_name} counts in another way",
        "It takes a moment, and counting goes on after the highest value, which the index tells.",
        (*sql.without(before, serial), *sql.counting(after, None)),
        (*sql.without(after, None), *sql.counting(before, serial)),
        phase=CONTRACT,
        alone=True,
    )


class _Statements:
    """What Alembic has no operation for, as SQL for one column."""

    def __init__(self, differences: Differences, operation: ops.AlterColumnOp) -> None:
        self.operation = operation
        self.dialect = differences.connection.dialect
        self.table = qualified(self.dialect, operation.schema, operation.table_name)
        self.column = qualified(self.dialect, operation.column_name)

    def without(self, default: Any, serial: str | None) -> tuple[MigrateOperation, ...]:
        """Drop what the column counts with."""
        if is_identity(default):
            return self._execute(f"ALTER TABLE {self.table} ALTER COLUMN {self.column} DROP IDENTITY")
        drop = alter(self.operation, modify_server_default=None)
        return (drop, *self._execute(f"DROP SEQUENCE {serial}")) if serial else (drop,)

    def counting(self, default: Any, serial: str | None) -> tuple[MigrateOperation, ...]:
        """Let it count with an identity, or with the sequence of a serial, from the highest value on."""
        create: tuple[MigrateOperation, ...] = ()
        if serial is not None:
            create = self._execute(f"CREATE SEQUENCE {serial} OWNED BY {self.table}.{self.column}")
            default = DefaultClause(text(f"nextval('{serial}')"))
        if default is None:
            return ()
        return *create, alter(self.operation, modify_server_default=default), *self._go_on()

    def _go_on(self) -> tuple[MigrateOperation, ...]:
        name = self.operation.column_name
        following: ColumnElement[int] = func.coalesce(func.max(column(name)), 0) + 1
        go_on = select(func.setval(func.pg_get_serial_sequence(self.table, name), following, False))
        rows = go_on.select_from(table(self.operation.table_name, schema=self.operation.schema))
        sql = str(rows.compile(dialect=self.dialect, compile_kwargs={"literal_binds": True}))
        return self._execute(sql.replace("\n", ""))

    def _execute(self, statement: str) -> tuple[MigrateOperation, ...]:
        return Comment("Alembic has no operation that does it."), ops.ExecuteSQLOp(statement.replace(":", r"\:"))


def _serial(differences: Differences, operation: ops.AlterColumnOp) -> str | None:
    """The sequence of a serial column, which Alembic does not see."""
    sequence = func.pg_get_serial_sequence(_Statements(differences, operation).table, operation.column_name)
    name: str | None = differences.connection.scalar(select(sequence))
    return name if not is_identity(operation.existing_server_default) else None
