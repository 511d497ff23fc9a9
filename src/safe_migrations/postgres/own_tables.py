"""The schema of this library in the database of a service: its tables are made when the first row is about to come."""

from collections.abc import Iterable

from sqlalchemy import Connection, TextClause, func, select, text

from safe_migrations.postgres.advisory_lock import lock_key

SCHEMA = "safe_migrations"  # apart from the service's own tables

# Not to_regclass, which may still return what it found before the lock was free.
_EXISTING = text(f"""
    SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = '{SCHEMA}') AS schema,
      (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
       WHERE nspname = '{SCHEMA}' AND relname = :table) AS table
""")  # noqa: S608  # a constant
_CREATE_SCHEMA = text(f"CREATE SCHEMA {SCHEMA}")


def has_table(connection: Connection, table: str) -> bool:
    """Whether a table of the library exists.

    Args:
        connection: to the database.
        table: without the schema.
    """
    return bool(connection.execute(_EXISTING, {"table": table}).one().table)


def create_own_tables(connection: Connection, table: str, statements: Iterable[TextClause]) -> None:
    """Create tables of the library, unless they exist; several processes may do so at once.

    Args:
        connection: in a transaction.
        table: the first one.
        statements: which create them.
    """
    connection.execute(select(func.pg_advisory_xact_lock(lock_key(SCHEMA, "backfill", "tables"))))
    existing = connection.execute(_EXISTING, {"table": table}).one()
    if not existing.schema:
        connection.execute(_CREATE_SCHEMA)
    if not existing.table:
        for statement in statements:
            connection.execute(statement)
