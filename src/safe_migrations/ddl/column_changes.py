"""Whether a change of a column rewrites its table.

See https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-NOTES; the tests trace each case on every
supported version of PostgreSQL.
"""

import re
from typing import Any, cast

from sqlalchemy import Column, Connection, Dialect, Identity, TypeDecorator, column, func, select, table, types
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

DIALECT: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy has left it so
_PG_PROC = table("pg_proc", column("proname"), column("provolatile"))


def plain_type(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type of a column in the database, without decorators of the models.

    A revision uses this type, because it must not import models, which change.

    Args:
        type_: of the models.
    """
    own = isinstance(type_, TypeDecorator) and not type(type_).__module__.startswith("sqlalchemy.")
    return _public(plain_type(cast("TypeDecorator[Any]", type_).load_dialect_impl(DIALECT))) if own else type_


def _public(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """SQLAlchemy's public type for one of a driver, which dialect.type_descriptor() returns to decorators."""
    for class_ in type(type_).__mro__:
        if class_ in (getattr(types, class_.__name__, None), getattr(postgresql, class_.__name__, None)):
            return type_ if class_ is type(type_) else type_.adapt(class_)
    return type_


def keeps_rows(before: TypeEngine[Any], after: TypeEngine[Any]) -> bool:
    """Whether a column can get another type without a rewrite of its table or indexes.

    Args:
        before: the column's type.
        after: its new type.
    """
    before, after = plain_type(before), plain_type(after)
    if isinstance(before, types.String) and isinstance(after, types.String):
        native = [isinstance(type_, types.Enum) and type_.native_enum for type_ in (before, after)]
        if any(native) or any(isinstance(type_, types.CHAR) for type_ in (before, after)):
            return False
        return before.collation == after.collation and _at_least(before.length, after.length)
    if isinstance(before, types.Numeric) and isinstance(after, types.Numeric):
        if any(isinstance(type_, types.Float) for type_ in (before, after)):
            return False
        same_scale = after.precision is None or (before.scale or 0) == (after.scale or 0)
        return same_scale and _at_least(before.precision, after.precision)
    if isinstance(before, postgresql.BIT) and isinstance(after, postgresql.BIT):
        return before.varying and after.varying and _at_least(before.length, after.length)
    for kind in (types.DateTime, types.Time):
        if isinstance(before, kind) and isinstance(after, kind):
            return before.timezone == after.timezone and _precision(before) <= _precision(after)
    return isinstance(before, postgresql.CIDR) and isinstance(after, postgresql.INET)


def writes_rows(new: Column[Any]) -> bool:
    """Whether adding this column rewrites its table, because PostgreSQL computes or checks a value for each row.

    Args:
        new: the column.
    """
    if isinstance(new.type, postgresql.DOMAIN) and (new.type.check is not None or new.type.not_null):
        return True
    return new.identity is not None or (new.computed is not None and new.computed.persisted is not False)


def is_identity(default: Any) -> bool:
    """Whether a column's default is a sequence of its own.

    Args:
        default: as Alembic finds it in the models or in the database.
    """
    return isinstance(default, Identity)


def default_text(connection: Connection, new: Column[Any]) -> str | None:
    """The server default as SQL; None without one.

    Args:
        connection: to the database.
        new: a column of the models.
    """
    dialect = connection.dialect
    compiler: Any = dialect.ddl_compiler
    text: str | None = compiler(dialect, None).get_column_default_string(new)
    return text


def is_volatile(connection: Connection, default: str) -> bool:
    """Whether a default differs from row to row, so that PostgreSQL can't store a single value for all rows.

    Args:
        connection: to the database, which knows its functions.
        default: as SQL.
    """
    without_literals = re.sub(r"'(?:[^']|'')*'", "''", default)
    names = [name.lower() for name in re.findall(r'([\w$]+)"?\s*\(', without_literals)]
    volatile = select(func.count()).select_from(_PG_PROC)
    return bool(connection.scalar(volatile.where(_PG_PROC.c.proname.in_(names), _PG_PROC.c.provolatile == "v")))


def _at_least(before: int | None, after: int | None) -> bool:
    return after is None or (before is not None and before <= after)


def _precision(type_: TypeEngine[Any]) -> int:
    precision: int | None = getattr(type_, "precision", None)
    return 6 if precision is None else precision  # microseconds
