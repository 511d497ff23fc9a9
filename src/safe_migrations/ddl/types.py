"""Types of columns in revision files that SQLAlchemy does not have."""

from typing import Any

from sqlalchemy.types import UserDefinedType


class SQLType(UserDefinedType[Any]):
    """A type as PostgreSQL writes it, such as one of an extension: `sa.Column("place", SQLType("vector(3)"))`."""

    cache_ok = True

    def __init__(self, sql: str) -> None:
        """Keep the SQL.

        Args:
            sql: the name of the type, with its arguments; quoted where necessary.
        """
        self.sql = sql

    def get_col_spec(self, **_options: Any) -> str:
        """The SQL, for SQLAlchemy."""
        return self.sql
