"""The safe form of a column's new default, and of a switch between serial and identity."""

from typing import Any

from alembic.operations import MigrateOperation, ops
from sqlalchemy import BigInteger, ColumnElement, DefaultClause, Text, column, func, literal, select, table, text

from safe_migrations.autogenerate.column_types import enum_of
from safe_migrations.autogenerate.comparison import Comparison, alter, table_of
from safe_migrations.autogenerate.enum_comparison import VALUES_ADDED, EnumChange
from safe_migrations.autogenerate.plan import Change, Stage
from safe_migrations.autogenerate.rendering import Comment, plain_sql
from safe_migrations.ddl.column_changes import is_identity, plain_type
from safe_migrations.postgres.sql import qualified
from safe_migrations.upgrade.phases import CONTRACT, EXPAND


def change_default(operation: ops.AlterColumnOp, comparison: Comparison) -> Change:
    """Give a column another default, or none, or an identity."""
    before, after = operation.existing_server_default or None, operation.modify_server_default
    if is_identity(before) or is_identity(after) or (not before and not after):
        return _change_identity(comparison, operation, before, after)
    comment, phase = "Metadata only: the default applies to new rows.", EXPAND
    if after is None:
        comment, phase = "Metadata only. Contract, because the running code may rely on the default.", CONTRACT
    elif _names_new_value(comparison, operation):
        comment, phase = f"{comment} Contract, because the running code does not know its value.", CONTRACT
    return Change(
        Stage.COLUMNS,
        table_of(operation),
        f"{table_of(operation)}.{operation.column_name} with{'' if after else 'out'} a default",
        (Comment(comment), alter(operation, modify_server_default=after)),
        (alter(operation, modify_server_default=before),),
        phase,
    )


def _names_new_value(comparison: Comparison, operation: ops.AlterColumnOp) -> bool:
    """Whether the default may be a value that this change adds to the column's enum."""
    enum = enum_of(comparison.model_column(operation).type)
    changes = comparison.of(EnumChange)
    return enum is not None and any(change.name == enum.name and change.kind == VALUES_ADDED for change in changes)


def _change_identity(comparison: Comparison, operation: ops.AlterColumnOp, before: Any, after: Any) -> Change:
    """The old default is dropped first: PostgreSQL has no default beside an identity."""
    serial, new_serial = _serial(comparison, operation), _new_serial(comparison, operation, after)
    sql = _Statements(comparison, operation)
    old = "identity" if is_identity(before) else "serial" if serial else "default" if before else "no default"
    new = "identity" if is_identity(after) else "serial" if new_serial else "default" if after else "no default"
    after_not_null = operation.modify_nullable is False  # which an identity needs
    return Change(
        Stage.DROP_CONSTRAINTS if after_not_null else Stage.COLUMNS,
        table_of(operation),
        f"{table_of(operation)}.{operation.column_name}: switch from {old} to {new}",
        (
            Comment("Metadata only. Numbering continues after the highest value, which the index finds at once."),
            *sql.without(before, serial),
            *sql.counting(after, new_serial),
        ),
        (*sql.without(after, new_serial), *sql.counting(before, serial)),
        CONTRACT,
        alone=True,
    )


class _Statements:
    """SQL for one column, where Alembic has no operation."""

    def __init__(self, comparison: Comparison, operation: ops.AlterColumnOp) -> None:
        self.operation = operation
        self.dialect = comparison.connection.dialect
        self.table = qualified(self.dialect, operation.schema, operation.table_name)
        self.column = qualified(self.dialect, operation.column_name)

    def without(self, default: Any, serial: str | None) -> tuple[MigrateOperation, ...]:
        """Drop the default, the identity, or the sequence of a serial."""
        if is_identity(default):
            return plain_sql(f"ALTER TABLE {self.table} ALTER COLUMN {self.column} DROP IDENTITY")
        if default is None and serial is None:
            return ()
        drop = alter(self.operation, modify_server_default=None)
        return (drop, *plain_sql(f"DROP SEQUENCE {serial}")) if serial else (drop,)

    def counting(self, default: Any, serial: str | None) -> tuple[MigrateOperation, ...]:
        """Set the default, the identity, or the sequence of a serial, which continues after the highest value."""
        create: tuple[MigrateOperation, ...] = ()
        if serial is not None:
            type_ = plain_type(self.operation.existing_type or BigInteger()).compile(self.dialect)
            create = plain_sql(f"CREATE SEQUENCE {serial} AS {type_} OWNED BY {self.table}.{self.column}")
            default = DefaultClause(text(f"nextval('{serial}')"))
        if default is None:
            return ()
        return *create, alter(self.operation, modify_server_default=default), *self._continue()

    def _continue(self) -> tuple[MigrateOperation, ...]:
        name = self.operation.column_name
        following: ColumnElement[int] = func.coalesce(func.max(column(name)), 0) + 1
        set_sequence = select(
            func.setval(func.pg_get_serial_sequence(self.table, literal(name, Text)), following, False)
        )
        rows = set_sequence.select_from(table(self.operation.table_name, schema=self.operation.schema))
        sql = str(rows.compile(dialect=self.dialect, compile_kwargs={"literal_binds": True}))
        return plain_sql(sql.replace("\n", ""))


def _serial(comparison: Comparison, operation: ops.AlterColumnOp) -> str | None:
    """The sequence of a serial column, which Alembic does not compare."""
    sequence = func.pg_get_serial_sequence(_Statements(comparison, operation).table, operation.column_name)
    name: str | None = comparison.connection.scalar(select(sequence))
    return name if not is_identity(operation.existing_server_default) else None


def _new_serial(comparison: Comparison, operation: ops.AlterColumnOp, after: Any) -> str | None:
    """The sequence of a column that is a serial in the models: the first integer of a primary key."""
    column = comparison.model_column(operation)
    if after is not None or column.table.autoincrement_column is not column:
        return None
    name = f"{operation.table_name}_{operation.column_name}_seq"
    return qualified(comparison.connection.dialect, operation.schema, name)
