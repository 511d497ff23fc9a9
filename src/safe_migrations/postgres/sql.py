"""The text of SQL statements: names, quoted where necessary, and statements without parameters."""

from sqlalchemy import DDL, Dialect


def qualified(dialect: Dialect, *names: str | None) -> str:
    """A name in SQL, quoted where necessary.

    Args:
        dialect: which knows the words that need it.
        names: its parts, such as a schema and a table; those that are missing are left out.
    """
    return ".".join(dialect.identifier_preparer.quote(name) for name in names if name)


def ddl(statement: str, **names: str) -> DDL:
    """A statement without parameters, of which PostgreSQL's DDL has none.

    Args:
        statement: with `%(…)s` in the places of the names.
        names: quoted where necessary.
    """
    return DDL(statement, context=names)  # type: ignore[no-untyped-call]  # SQLAlchemy has left it so
