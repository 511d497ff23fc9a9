"""The text of SQL statements: quoted names, statements without parameters, and the .sql files of this library."""

import re
from hashlib import md5
from importlib.resources import files
from typing import Any

from sqlalchemy import DDL, ClauseElement, Dialect, String, TextClause, bindparam, text
from sqlalchemy.sql.elements import conv

LONGEST_NAME = 63  # bytes; PostgreSQL cuts off what follows
# As in SQLAlchemy: what text() takes for a parameter, and what it takes for an escaped colon.
_PARAMETER = re.compile(r"(?<![:\w\\]):(?=\w+(?!:)\b)|\\(?=:\w*(?![:\w]))")
_NAME = re.compile(r"^-- (\w+) --\n(?:-- .*\n)*", re.MULTILINE)


def qualified(dialect: Dialect, *names: str | None) -> str:
    """A name in SQL, quoted where necessary.

    Args:
        names: the parts, such as a schema and a table; None for a missing part. A name of the naming convention
            (`op.f`) gets the form that SQLAlchemy gives it, shortened by a hash if it is too long.
    """
    preparer = dialect.identifier_preparer
    return ".".join(
        preparer.truncate_and_render_index_name(name) if isinstance(name, conv) else preparer.quote(name)
        for name in names
        if name
    )


def dotted(schema: str | None, name: str) -> str:
    """A name as the keys of SQLAlchemy's metadata have it: with its schema if it has one, and not quoted."""
    return f"{schema}.{name}" if schema else name


def short_name(name: str) -> str:
    """A name, shortened by a hash if PostgreSQL would cut it off: as SQLAlchemy does, but counted in bytes."""
    encoded = name.encode()
    if len(encoded) <= LONGEST_NAME:
        return name
    digest = md5(encoded, usedforsecurity=False).hexdigest()
    return f"{stored_name(name, LONGEST_NAME - 8)}_{digest[-4:]}"


def stored_name(name: str, length: int = LONGEST_NAME) -> str:
    """A name as PostgreSQL stores it: what is too long is cut off.

    Args:
        length: in bytes.
    """
    return name.encode()[:length].decode(errors="ignore")


def sql_of(element: ClauseElement, dialect: Dialect, **options: Any) -> str:
    """The text of an element, also for a driver whose parameters double the percent signs.

    Args:
        element: without parameters.
    """
    sql = str(element.compile(dialect=dialect, **options))
    return sql.replace("%%", "%") if dialect.paramstyle in ("format", "pyformat") else sql


def literal_sql(dialect: Dialect, value: str) -> str:
    """A string in SQL, quoted."""
    return sql_of(bindparam(None, value, String()), dialect, compile_kwargs={"literal_binds": True})


def ddl(statement: str, **names: str) -> DDL:
    """A statement without parameters, of which PostgreSQL's DDL has none.

    Args:
        statement: with `%(…)s` in the places of the names.
        names: quoted where necessary.
    """
    return DDL(statement, context=names)  # type: ignore[no-untyped-call]  # SQLAlchemy has left it so


def read_sql(package: str, name: str) -> dict[str, TextClause]:
    """The statements of a .sql file, each below a line such as `-- claim --`, and comments."""
    _, *parts = _NAME.split(files(package).joinpath(name).read_text(encoding="utf-8"))
    return {part: text(statement.strip()) for part, statement in zip(parts[::2], parts[1::2], strict=True)}


def escaped(sql: str) -> str:
    """SQL as SQLAlchemy's `text` takes it, which sees a parameter in `:name` unless a backslash is before the colon.

    Args:
        sql: without parameters, such as `'{"a":1}'`.
    """
    return _PARAMETER.sub(r"\\\g<0>", sql)
