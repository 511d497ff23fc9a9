"""Creating, copying and dropping databases on a real server."""

import asyncio
from uuid import uuid4

import pytest
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.postgres.creation import create_database, database_exists, drop_database
from support import at, fetch


@pytest.mark.parametrize("name", ["plain", 'quo"te; DROP DATABASE postgres', "Capital Letters", "select"])
def test_any_name(server: URL, name: str) -> None:
    name = f"{name}_{uuid4().hex[:8]}"
    assert not run_async(database_exists(at(server), name))
    run_async(create_database(at(server), name))
    assert run_async(database_exists(at(server), name))
    run_async(drop_database(at(server), name))
    assert not run_async(database_exists(at(server), name))


def test_copy_of_another(server: URL, database: URL) -> None:
    fetch(database, "CREATE TABLE marker (id int)")
    name = f"copy_{uuid4().hex}"
    run_async(create_database(at(server), name, template=str(database.database)))
    assert fetch(server.set(database=name), "SELECT * FROM marker") == []
    run_async(drop_database(at(server), name))


def test_drop_with_a_session_connected(server: URL, database: URL) -> None:
    async def drop_while_connected() -> None:
        async with connected(at(database)):
            await drop_database(at(server), str(database.database))

    run_async(drop_while_connected())
    assert not run_async(database_exists(at(server), str(database.database)))


def test_cancelled_creation_leaves_nothing_and_drops_nothing_else(server: URL, database: URL) -> None:
    async def cancel(name: str) -> "asyncio.Task[None]":
        creating = asyncio.create_task(create_database(at(server), name))
        await asyncio.sleep(0.01)
        creating.cancel()
        await asyncio.wait({creating})
        return creating

    name = f"cancelled_{uuid4().hex}"
    assert run_async(cancel(name)).cancelled()
    assert not run_async(database_exists(at(server), name))
    assert isinstance(run_async(cancel(str(database.database))).exception(), DBAPIError)
    assert run_async(database_exists(at(server), str(database.database)))
