"""Creating and dropping databases on a server, completely: a server continues after its client is interrupted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex

from sqlalchemy import text

from safe_migrations.postgres.connection import connected
from safe_migrations.postgres.database import Database


async def create_database(server: Database, name: str, template: str = "template1") -> None:
    """Create a database. If the task is cancelled meanwhile, the new database is dropped.

    Args:
        template: the database to copy, without connections.
    """
    create = "SELECT format('CREATE DATABASE %I TEMPLATE %I', CAST(:name AS text), CAST(:template AS text))"
    try:
        await _finish(server, create, name=name, template=template)
    except asyncio.CancelledError:
        await drop_database(server, name)
        raise


async def drop_database(server: Database, name: str) -> None:
    """Drop a database if it exists; its connections are ended. A task that is cancelled meanwhile ends afterwards."""
    drop = "SELECT format('DROP DATABASE IF EXISTS %I WITH (FORCE)', CAST(:name AS text))"
    await _finish(server, drop, name=name)


@asynccontextmanager
async def scratch_database(server: Database, name: str, template: str = "template0") -> AsyncIterator[Database]:
    """A new database with a name of its own, dropped at the end.

    Args:
        template: the database to copy, without connections; by default an empty one.
    """
    scratch = server.named(f"{_scratch_prefix(name)}{token_hex(4)}")
    await create_database(server, scratch.name, template)
    try:
        yield scratch
    finally:
        await drop_database(server, scratch.name)


async def left_scratch_databases(server: Database, name: str) -> list[str]:
    """The scratch databases that a killed run has left."""
    query = text("""
        SELECT datname FROM pg_database d
        WHERE starts_with(datname, :prefix) AND substr(datname, length(:prefix) + 1) ~ '^[0-9a-f]{8}$'
          AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datname = d.datname)
        ORDER BY 1
    """)
    async with connected(server) as connection:
        return list(await connection.scalars(query, {"prefix": _scratch_prefix(name)}))


def _scratch_prefix(name: str) -> str:
    return f"{name[:40]}_scratch_"


async def database_exists(server: Database, name: str) -> bool:
    """Whether the server has a database of this name."""
    async with connected(server) as connection:
        query = text("SELECT EXISTS (SELECT FROM pg_database WHERE datname = :name)")
        return bool(await connection.scalar(query, {"name": name}))


async def _finish(server: Database, query: str, **names: str) -> None:
    """Execute a statement to its end, however often the task is cancelled; the task ends afterwards."""
    # In a thread, because Ctrl-C for the second time cancels each task of this loop.
    work = asyncio.get_running_loop().run_in_executor(None, asyncio.run, _execute(server, query, **names))
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    work.result()
    if cancelled is not None:
        raise cancelled


async def _execute(server: Database, query: str, **names: str) -> None:
    # PostgreSQL quotes the names; neither statement may run in a transaction.
    async with connected(server, isolation_level="AUTOCOMMIT") as connection:
        statement = await connection.scalar(text(query), names)
        await connection.exec_driver_sql(statement)
