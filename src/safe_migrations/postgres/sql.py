"""The text of SQL statements: quoted names, statements without parameters, and the .sql files of this library."""

import re
from importlib.resources import files

from sqlalchemy import DDL, Dialect, TextClause, text

_NAME = re.compile(r"^-- (\w+) --\n(?:-- .*\n)*", re.MULTILINE)


def qualified(dialect: Dialect, *names: str | None) -> str:
    """A name in SQL, quoted where necessary.

    Args:
        dialect: knows the reserved words.
        names: the parts, such as a schema and a table; None for a missing part.
    """
    return ".".join(dialect.identifier_preparer.quote(name) for name in names if name)


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
