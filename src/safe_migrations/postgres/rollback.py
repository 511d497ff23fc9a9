"""Changes of a database for a comparison alone, which are rolled back."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from secrets import token_hex

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from safe_migrations.postgres.server_errors import sqlstate
from safe_migrations.postgres.sql import read_sql

_SQL = read_sql(__package__, "rollback.sql")
_NO_TRANSACTION = "25P01"


@contextmanager
def rolled_back(connection: Connection) -> Iterator[None]:
    """Undo what the block does to the database; an open transaction continues."""
    savepoint = f"safe_migrations_{token_hex(8)}"
    undo = [text(f"ROLLBACK TO SAVEPOINT {savepoint}"), text(f"RELEASE SAVEPOINT {savepoint}")]
    try:
        connection.execute(text(f"SAVEPOINT {savepoint}"))
    except DBAPIError as error:
        if sqlstate(error) != _NO_TRANSACTION:
            raise
        connection.execute(text("BEGIN"))
        undo = [text("ROLLBACK")]
    try:
        yield
    finally:
        for statement in undo:
            connection.execute(statement)


def execute_apart(connection: Connection, scripts: Mapping[str, str]) -> dict[str, str]:
    """Execute each script as a whole or not at all, all in one statement; return the errors, by the scripts' names."""
    if not scripts:
        return {}
    names = {"names": list(scripts), "scripts": list(scripts.values())}
    block = str(connection.scalar(_SQL["as_one_block"], names))
    connection.exec_driver_sql(block, execution_options={"no_parameters": True})
    failed: dict[str, str] = connection.scalar(_SQL["failures"]) or {}
    return failed
