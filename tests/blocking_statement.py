"""A statement that lasts until a test says so, and waiting for what the server does meanwhile."""

import asyncio
import time
from typing import Any

from sqlalchemy import URL, text

from safe_migrations.postgres.connection import connected, run_async
from support import at, fetch

# In a revision; the database has a table gate, which is empty as long as the statement is to last.
GATE = """
op.execute("DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.02); END LOOP; END $$")
"""
AT_THE_GATE = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active' AND query LIKE '%FROM gate%'
"""
# Whoever has asked for the lock of migrations, and was told that it is not free (or still waits for the answer).
WAITING_FOR_THE_LOCK = """
    SELECT pid FROM pg_stat_activity a
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%advisory\\_lock(%'
      AND (state <> 'active' OR wait_event = 'advisory')
      AND (SELECT count(*) FROM pg_locks l WHERE l.pid = a.pid AND locktype = 'advisory' AND granted) = 0
"""


def open_gate(database: URL) -> None:
    """Let the statement end."""
    fetch(database, "INSERT INTO gate DEFAULT VALUES")


def wait_for(database: URL, query: str, *, count: int = 1) -> list[Any]:
    """Wait until a query gives at least so many values, or none if `count` is 0; ask again on the same connection."""

    async def wait() -> list[Any]:
        until = time.monotonic() + 60
        async with connected(at(database), isolation_level="AUTOCOMMIT") as connection:
            while len(rows := (await connection.execute(text(query))).all()) < count or (rows and not count):
                assert time.monotonic() < until, f"{rows} instead of {count}: {query}"
                await asyncio.sleep(0.05)
        return [row[0] for row in rows]

    return run_async(wait())
