"""Which sessions `locks` shows beside those that wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import AsyncConnection

from safe_migrations.operate.sessions import blocking_sessions, lock_trees
from safe_migrations.postgres.connection import connected, run_async
from support import at, fetch

ADVISORY = "SELECT pg_advisory_lock(7)"


@asynccontextmanager
async def session(database: URL, application: str, *statements: str) -> AsyncIterator[tuple[AsyncConnection, int]]:
    """A session in a transaction, and its pid."""
    async with connected(at(database)) as connection:
        for statement in (f"SET application_name = '{application}'", *statements):
            await connection.exec_driver_sql(statement)
        yield connection, int(await connection.scalar(text("SELECT pg_backend_pid()")) or 0)


@pytest.mark.parametrize(
    ("application", "statements", "is_shown"),
    [
        ("alembic", [ADVISORY], False),  # a running migration
        ("alembic", ["SELECT 1"], True),  # one that has lost its lock, and keeps others
        ("flyway", [ADVISORY], True),
    ],
)
def test_a_running_migration_is_left_out(
    database: URL, application: str, statements: list[str], is_shown: bool
) -> None:
    async def look() -> bool:
        async with session(database, application, *statements) as (_, pid), connected(at(database)) as observer:
            return pid in [blocker.pid for blocker in await observer.run_sync(blocking_sessions)]

    assert run_async(look()) == is_shown


def test_a_migration_that_blocks_or_waits_is_shown(database: URL) -> None:
    fetch(database, "CREATE TABLE item (id int)")
    fetch(database, "CREATE TABLE entry (id int)")

    async def look() -> list[list[int]]:
        async with (
            session(database, "reports", "SELECT * FROM item") as (_, first),
            session(database, "alembic", ADVISORY, "LOCK TABLE entry") as (migration, second),
            session(database, "web") as (web, third),
            connected(at(database), isolation_level="AUTOCOMMIT") as observer,
        ):
            waits = [
                asyncio.create_task(connection.exec_driver_sql(statement))
                for connection, statement in ((migration, "LOCK TABLE item"), (web, "SELECT * FROM entry"))
            ]
            while True:
                trees = [tree for tree in await observer.run_sync(lock_trees) if tree.session.pid == first]
                if trees and trees[0].waiting and trees[0].waiting[0].waiting:
                    break
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)
            (migrating,) = trees[0].waiting
            return [[first, second, third], [first, migrating.session.pid, migrating.waiting[0].session.pid]]

    expected, shown = run_async(look())
    assert shown == expected
