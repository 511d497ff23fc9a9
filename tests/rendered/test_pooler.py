"""Behind PgBouncer in transaction mode, where the locks and settings of a session are lost."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, func, select, text

from safe_migrations.dev.cluster import free_port
from safe_migrations.postgres.connection import connected, run_async
from support import Service, as_text, at, fetch, tables

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")
IGNORED = (
    "lock_timeout,statement_timeout,idle_in_transaction_session_timeout,idle_session_timeout,"
    "tcp_keepalives_idle,tcp_keepalives_interval,tcp_keepalives_count"
)

pytestmark = pytest.mark.skipif(
    PGBOUNCER is None, reason="pgbouncer is not installed (Debian: apt-get install pgbouncer)"
)

LOCKS = """
    SELECT 1 FROM pg_locks
    WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
StartPooler = Callable[..., URL]


@pytest.fixture
def start_pooler(database: URL, tmp_path: Path) -> Iterator[StartPooler]:
    """Starts PgBouncer in front of the test's database, and gives the URL through it."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(**settings: str) -> URL:
        port, folder = free_port(), tmp_path / f"pgbouncer{len(processes)}"
        folder.mkdir()
        users, configuration = folder / "users", folder / "pgbouncer.ini"
        users.write_text(f'"{database.username}" "{database.password}"\n')
        options = {"listen_addr": "127.0.0.1", "listen_port": str(port), "pool_mode": "transaction"}
        options |= {"auth_type": "scram-sha-256", "auth_file": str(users), "unix_socket_dir": "", **settings}
        lines = [f"{name} = {value}" for name, value in options.items()]
        target = f"* = host={database.host} port={database.port}"
        configuration.write_text("\n".join(["[databases]", target, "[pgbouncer]", *lines, ""]))
        for path in (tmp_path, *tmp_path.parents[:-2]):  # PgBouncer refuses root, and runs as nobody
            path.chmod(path.stat().st_mode | 0o055)
        assert PGBOUNCER is not None
        command = [PGBOUNCER, "--user=nobody", str(configuration)]
        processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        url = database.set(port=port)
        _wait_until_it_answers(url)
        return url

    yield start
    for process in processes:
        process.terminate()
        process.wait()


def _wait_until_it_answers(url: URL) -> None:
    address = f"{url.host}", int(url.port or 0)
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(address).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < until
            time.sleep(0.02)


def assert_nothing_is_left(service: Service, database: URL) -> None:
    """Neither a table, nor a lock of a session that the pooler keeps; so the advice of the refusal can be followed."""
    assert tables(database) == set()
    assert fetch(database, LOCKS) == []
    service.environment |= {"ORDERS_MIGRATION_DATABASE_URL": as_text(database), "MIGRATION_LOCK_WAIT": "1s"}
    service.succeed("alembic", "upgrade", "head")


def test_a_pooler_that_refuses_settings_is_told(service: Service, database: URL, start_pooler: StartPooler) -> None:
    service.configure(start_pooler())
    for command in (
        ("alembic", "upgrade", "head"),
        ("alembic", "current"),
        ("safe-migrations", "state"),
    ):
        sentence = service.fail(*command)
        assert "goes through a pooler (unsupported startup parameter" in sentence
        assert "ORDERS_MIGRATION_DATABASE_URL" in sentence
    assert tables(database) == set()


def test_a_pooler_that_drops_settings_is_told(service: Service, database: URL, start_pooler: StartPooler) -> None:
    service.configure(start_pooler(ignore_startup_parameters=IGNORED))
    sentence = service.fail("alembic", "upgrade", "head")
    assert "goes through a pooler" in sentence
    assert "ORDERS_MIGRATION_DATABASE_URL" in sentence
    assert_nothing_is_left(service, database)


def test_a_pooler_that_exchanges_servers_is_told(service: Service, database: URL, start_pooler: StartPooler) -> None:
    """Even where the settings happen to be the database's own."""

    async def set_them() -> None:
        async with connected(at(database), isolation_level="AUTOCOMMIT") as connection:
            for name, value in (("lock_timeout", 1000), ("statement_timeout", 900_000), (IGNORED.split(",")[2], 1000)):
                quote = select(func.format("ALTER DATABASE %I SET %I = %L", database.database, name, str(value)))
                await connection.execute(text(await connection.scalar(quote) or ""))

    run_async(set_them())
    service.configure(start_pooler(ignore_startup_parameters=IGNORED))
    assert "goes through a pooler" in service.fail("alembic", "upgrade", "head")
    assert_nothing_is_left(service, database)


def test_migrations_past_the_pooler(service: Service, database: URL, start_pooler: StartPooler) -> None:
    """The application goes through it, and so may the probe; migrations connect directly."""
    service.configure(start_pooler())
    service.environment["ORDERS_MIGRATION_DATABASE_URL"] = as_text(database)
    service.succeed("alembic", "upgrade", "head")
    service.succeed("safe-migrations", "state", "--quick")
    assert "item" in tables(database)


def test_stock_alembic_does_not_notice_the_pooler(service: Service, database: URL, start_pooler: StartPooler) -> None:
    service.use_stock_environment()
    service.configure(start_pooler())
    service.succeed("alembic", "upgrade", "head")
    assert "item" in tables(database)
