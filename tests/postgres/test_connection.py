"""Connecting to a real server, and the sentence for each way in which that fails."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from safe_migrations.errors import ConnectionFailedError
from safe_migrations.postgres import connection
from safe_migrations.postgres.connection import client_environment, connected, run_async
from sqlalchemy import URL, make_url, text

from support import NewRole, at, fetch


def sentence_for(url: URL) -> str:
    """What a failing connection says: one line, which names a setting and holds no password."""
    with pytest.raises(ConnectionFailedError) as failure:
        fetch(url, "SELECT 1")
    sentence = str(failure.value)
    assert "TEST_DATABASE_URL" in sentence
    assert "\n" not in sentence
    assert str(url.password) not in sentence
    return sentence


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"password": "wr%ong"}, "refused the password of the user 'postgres'"),
        ({"username": "stranger"}, "refused the password of the user 'stranger'"),
        ({"database": "missing"}, "has no database 'missing': create it"),
        ({"port": 1}, "does not answer at 127.0.0.1:1 (connection refused): start it"),
        ({"host": "unknown.invalid"}, "does not answer at unknown.invalid"),
        ({"host": ".."}, "does not answer at .."),
        ({"query": {"ssl": "require"}}, "offers no TLS: turn it on there"),
    ],
    ids=["password", "user", "database", "port", "host", "no-name", "ssl"],
)
def test_failure_is_one_sentence(server: URL, change: dict[str, Any], message: str) -> None:
    assert message in sentence_for(server.set(**change))


def test_role_that_may_not_log_in(server: URL, new_role: NewRole) -> None:
    role = new_role("NOLOGIN", "secret")
    message = sentence_for(server.set(username=role, password="secret"))
    assert f'refused this (role "{role}" is not permitted to log in)' in message


def test_missing_socket(tmp_path: Path) -> None:
    url = URL.create("postgresql+asyncpg", "postgres", "secret", query={"host": str(tmp_path)})
    assert f"does not answer at {tmp_path}" in sentence_for(url)


def test_silent_server(server: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        assert f"does not answer at 127.0.0.1:{port} (no answer within 0.2 s)" in sentence_for(server.set(port=port))


def test_session_settings_are_there_without_a_transaction(server: URL) -> None:
    (settings,) = fetch(server, "SELECT current_setting('application_name'), current_setting('lock_timeout')")
    assert tuple(settings) == ("alembic", "1s")


def test_run_async_inside_a_running_loop(server: URL) -> None:
    async def application() -> Any:
        return fetch(server, "SELECT 1")

    assert asyncio.run(application()) == [(1,)]
    assert run_async(application()) == [(1,)]


def test_client_environment_is_what_psql_reads() -> None:
    url = URL.create("postgresql+asyncpg", "somebody", "p@ss", "host", 5433, "orders", {"ssl": "require"})
    assert client_environment(url) == {
        "PGHOST": "host",
        "PGPORT": "5433",
        "PGUSER": "somebody",
        "PGPASSWORD": "p@ss",
        "PGDATABASE": "orders",
        "PGSSLMODE": "require",
    }


def test_client_environment_with_several_hosts() -> None:
    url = make_url("postgresql+asyncpg://somebody@/orders?host=one:5433&host=two:5434")
    assert client_environment(url).items() >= {("PGHOST", "one,two"), ("PGPORT", "5433,5434")}


def test_no_connection_is_left_open(database: URL) -> None:
    async def connect_twice() -> int:
        async with connected(at(database)):
            pass
        async with connected(at(database)) as connection:
            count = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            return int(await connection.scalar(count) or 0)

    assert run_async(connect_twice()) == 1, "only the one that asks"
