"""The schema of this library in the database of a service: its tables are made when the first row is about to come."""

from collections.abc import Iterable

from sqlalchemy import Connection, TextClause, func, select, text

from safe_migrations.errors import MigrationError
from safe_migrations.postgres.advisory_lock import lock_key
from safe_migrations.postgres.sql import qualified, read_sql

SCHEMA = "safe_migrations"  # apart from the service's own tables

_SQL = read_sql(__package__, "own_tables.sql")
_CREATE_SCHEMA = text(f"CREATE SCHEMA {SCHEMA}")


def has_table(connection: Connection, table: str) -> bool:
    """Whether a table of the library exists, and the user may read it.

    Args:
        table: without the schema.
    """
    return bool(connection.execute(_SQL["existing"], {"table": table}).one().table)


def missing_privilege(connection: Connection, table: str) -> str | None:
    """Why the user can't record anything in a table of the library, with the statements that grant it.

    Args:
        table: without the schema; it need not exist.

    Returns:
        None if the user can.
    """
    row = connection.execute(_SQL["privileges"], {"table": table}).one()
    if row.sufficient:
        return None
    role = qualified(connection.dialect, row.role)
    grants = (
        f"GRANT USAGE, CREATE ON SCHEMA {SCHEMA} TO {role};\n"
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {SCHEMA} TO {role};"
    )
    return (
        f"The user {row.role!r} may not {'use' if row.schema else 'create'} the schema {SCHEMA} of the database "
        f"{row.database!r}, which records completed steps and backfills. As the owner of the "
        f"{'schema' if row.schema else 'database'}, run this once in the database:\n"
        + (grants if row.schema else f"CREATE SCHEMA {SCHEMA} AUTHORIZATION {role};")
    )


def create_own_tables(connection: Connection, table: str, statements: Iterable[TextClause]) -> None:
    """Create tables of the library, unless they exist; several processes may do so at once.

    Args:
        connection: in a transaction.
        table: the first one.

    Raises:
        MigrationError: the user has not the privileges.
    """
    if (missing := missing_privilege(connection, table)) is not None:
        raise MigrationError(missing)
    connection.execute(select(func.pg_advisory_xact_lock(lock_key(SCHEMA, "backfill", "tables"))))
    existing = connection.execute(_SQL["existing"], {"table": table}).one()
    if not existing.schema:
        connection.execute(_CREATE_SCHEMA)
    if not existing.table:
        for statement in statements:
            connection.execute(statement)
