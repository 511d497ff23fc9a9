"""A transaction that keeps a lock on the table entry, and migrations that wait for it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import URL

from blocking_statement import wait_for
from support import Process, as_text

WAITING_FOR_A_LOCK = """
    SELECT l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE NOT l.granted AND l.relation = 'entry'::regclass AND a.query LIKE 'ALTER TABLE%'
"""


def wait_for_a_try_that_fails(database: URL) -> None:
    wait_for(database, WAITING_FOR_A_LOCK)
    wait_for(database, WAITING_FOR_A_LOCK, count=0)


def end(process: Process, status: int = 0) -> str:
    """Wait for a command, and return what it said and logged."""
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == status, stderr
    assert "Traceback" not in stderr
    return stderr


def said(stderr: str) -> str:
    """The error, without the log."""
    return "\n".join(line for line in stderr.splitlines() if not line.startswith(("INFO ", "WARNI")))


async def connect(database: URL, application: str) -> Any:
    # Without prepared statements, of which a new column invalidates those that ask for `*`.
    settings = {"application_name": application}
    return await asyncpg.connect(as_text(database), server_settings=settings, statement_cache_size=0)


@contextmanager
def holding(database: URL, statement: str = "SELECT * FROM entry LIMIT 1") -> Iterator[int]:
    """A transaction of somebody who has read and then does nothing; gives the pid of its process on the server."""
    with asyncio.Runner() as runner:
        connection = runner.run(connect(database, "report"))
        runner.run(connection.execute(f"BEGIN; {statement}"))
        try:
            yield connection.get_server_pid()
        finally:
            runner.run(connection.close())


async def read_one_after_the_other(database: URL, names: list[str], seconds: float) -> None:
    """Readers who have each read a table, and whose transactions end so many seconds apart.

    Args:
        database: with the tables.
        names: of the tables.
        seconds: from one to the next.
    """
    connections = [await connect(database, name) for name in names]
    for connection, name in zip(connections, names, strict=True):
        await connection.execute(f"BEGIN; LOCK TABLE {name} IN ACCESS SHARE MODE")
    for connection in connections:
        await asyncio.sleep(seconds)
        await connection.close()
