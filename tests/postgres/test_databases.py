"""Creating, copying and dropping databases on a real server."""

from uuid import uuid4

import pytest
from sqlalchemy import URL

from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.postgres.databases import create_database, database_exists, drop_database
from support import ENV_PREFIX, fetch


@pytest.mark.parametrize("name", ["plain", 'quo"te; DROP DATABASE postgres', "Capital Letters", "select"])
def test_any_name(server: URL, name: str) -> None:
    name = f"{name}_{uuid4().hex[:8]}"
    assert not run_async(database_exists(server, ENV_PREFIX, name))
    run_async(create_database(server, ENV_PREFIX, name))
    assert run_async(database_exists(server, ENV_PREFIX, name))
    run_async(drop_database(server, ENV_PREFIX, name))
    assert not run_async(database_exists(server, ENV_PREFIX, name))


def test_copy_of_another(server: URL, database: URL) -> None:
    fetch(database, "CREATE TABLE marker (id int)")
    name = f"copy_{uuid4().hex}"
    run_async(create_database(server, ENV_PREFIX, name, template=str(database.database)))
    assert fetch(server.set(database=name), "SELECT * FROM marker") == []
    run_async(drop_database(server, ENV_PREFIX, name))


def test_drop_with_somebody_connected(server: URL, database: URL) -> None:
    async def drop_while_connected() -> None:
        async with connected(database, ENV_PREFIX):
            await drop_database(server, ENV_PREFIX, str(database.database))

    run_async(drop_while_connected())
    assert not run_async(database_exists(server, ENV_PREFIX, str(database.database)))
