"""Creating, copying and dropping databases on a real server."""

from uuid import uuid4

import pytest
from sqlalchemy import URL

from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.postgres.databases import create_database, database_exists, drop_database
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


def test_drop_with_somebody_connected(server: URL, database: URL) -> None:
    async def drop_while_connected() -> None:
        async with connected(at(database)):
            await drop_database(at(server), str(database.database))

    run_async(drop_while_connected())
    assert not run_async(database_exists(at(server), str(database.database)))
