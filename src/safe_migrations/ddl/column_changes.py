"""Whether a change of a column rewrites its table.

See https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-NOTES; the tests trace each case on every
supported version of PostgreSQL.
"""

import re
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Column, Connection, Dialect, Identity, TypeDecorator, column, func, select, table, types
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import CompileError
from sqlalchemy.types import TypeEngine

DIALECT: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy has left it so
MICROSECONDS = 6  # digits of a second's fraction, if a type does not say how many
_FORM = re.compile(
    r"(?P<name>[A-Z]+(?:8| VARYING| PRECISION)?) ?(?P<arguments>\([\d, ]+\))?(?: (?P<zone>WITH(?:OUT)? TIME ZONE))?"
    r"(?P<rest>(?: COLLATE \S+)?(?:\[\])*)"
)
_PG_PROC = table("pg_proc", column("proname"), column("provolatile"))


def plain_type(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type of a column in the database, without decorators of the models.

    A revision uses this type, because it must not import models, which change.
    """
    own = isinstance(type_, TypeDecorator) and is_foreign(type_)
    return _public(plain_type(cast("TypeDecorator[Any]", type_).load_dialect_impl(DIALECT))) if own else type_


def is_foreign(type_: TypeEngine[Any]) -> bool:
    """Whether the class of a type is another package's, or the project's own, and not SQLAlchemy's."""
    return not type(type_).__module__.startswith("sqlalchemy.")


def _public(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """SQLAlchemy's public type for one of a driver, which dialect.type_descriptor() returns to decorators."""
    for class_ in () if is_foreign(type_) else type(type_).__mro__:
        if class_ in (getattr(types, class_.__name__, None), getattr(postgresql, class_.__name__, None)):
            return type_ if class_ is type(type_) else type_.adapt(class_)
    return type_


@dataclass(frozen=True)
class TypeForm:
    """A type as PostgreSQL names it, which says more than a class of Python: a subclass may be another type.

    Attributes:
        name: in capitals, if it is one of PostgreSQL's own types; otherwise the text as a whole.
        arguments: the length, or precision and scale.
        with_zone: whether a time has a time zone.
        rest: the collation, and the dimensions of an array.
    """

    name: str
    arguments: tuple[int, ...] = ()
    with_zone: bool = False
    rest: str = ""

    @property
    def is_array(self) -> bool:
        """Whether a value has several elements."""
        return self.rest.endswith("]")

    @classmethod
    def of(cls, type_: TypeEngine[Any]) -> "TypeForm":
        """The form of a type of the models, or of the database."""
        try:
            text = plain_type(type_).compile(dialect=DIALECT)
        except CompileError:  # Alembic knows no type for the column
            return cls("")
        if (match := _FORM.fullmatch(text)) is None:
            return cls(text)
        arguments = tuple(map(int, re.findall(r"\d+", match["arguments"] or "")))
        return cls(match["name"], arguments, (match["zone"] or "").startswith("WITH "), match["rest"])


def keeps_rows(before: TypeEngine[Any], after: TypeEngine[Any]) -> bool:
    """Whether the new type stores every value of the old one in the same form, so that no row is rewritten.

    Indexes and checks of the column may cost more than that.
    """
    old, new = TypeForm.of(before), TypeForm.of(after)
    if (old.rest, old.with_zone) != (new.rest, new.with_zone) or old.is_array:
        return False
    match old.name, new.name:
        case ("VARCHAR" | "TEXT", "VARCHAR" | "TEXT") | ("BIT VARYING", "BIT VARYING"):
            return _at_least(old.arguments, new.arguments)
        case ("NUMERIC", "NUMERIC"):
            return not new.arguments or (
                _at_least(old.arguments, new.arguments) and (*old.arguments, 0)[1] == (*new.arguments, 0)[1]
            )
        case ("TIMESTAMP", "TIMESTAMP") | ("TIME", "TIME"):
            return (*old.arguments, MICROSECONDS)[0] <= (*new.arguments, MICROSECONDS)[0]
        case ("CIDR", "INET"):
            return True
    return False


def writes_rows(new: Column[Any]) -> bool:
    """Whether adding this column rewrites its table, because PostgreSQL computes or checks a value for each row."""
    type_ = plain_type(new.type)
    while isinstance(type_, postgresql.DOMAIN):
        computed = type_.default is not None and "(" in str(type_.default)  # maybe volatile
        if type_.check is not None or type_.not_null or computed:
            return True
        type_ = plain_type(type_.data_type)
    return new.identity is not None or (new.computed is not None and new.computed.persisted is not False)


def is_identity(default: Any) -> bool:
    """Whether a column's default is a sequence of its own.

    Args:
        default: as Alembic finds it in the models or in the database.
    """
    return isinstance(default, Identity)


def default_text(connection: Connection, new: Column[Any]) -> str | None:
    """The server default as SQL; None without one."""
    dialect = connection.dialect
    compiler: Any = dialect.ddl_compiler
    text: str | None = compiler(dialect, None).get_column_default_string(new)
    return text


def is_volatile(connection: Connection, default: str) -> bool:
    """Whether a default differs from row to row, so that PostgreSQL can't store a single value for all rows."""
    without_literals = re.sub(r"'(?:[^']|'')*'", "''", default)
    names = [name.lower() for name in re.findall(r'([\w$]+)"?\s*\(', without_literals)]
    volatile = select(func.count()).select_from(_PG_PROC)
    return bool(connection.scalar(volatile.where(_PG_PROC.c.proname.in_(names), _PG_PROC.c.provolatile == "v")))


def _at_least(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    return not after or (bool(before) and before[0] <= after[0])
