"""Connecting to a real server, by a URL for any driver, and the sentence for each way in which that fails."""

import asyncio
import os
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from sqlalchemy import URL, Connection, make_url, text
from sqlalchemy.exc import DBAPIError

from safe_migrations.dev.cluster import THROW_AWAY, Cluster, free_port
from safe_migrations.errors import ConfigurationError, ConnectionFailedError, EmbeddedPostgresError
from safe_migrations.postgres import connection, server_errors
from safe_migrations.postgres.compiled_statements import CompiledStatements
from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.postgres.database import Database, client_environment
from safe_migrations.postgres.programs import find_programs
from safe_migrations.postgres.server_errors import reason
from support import SETTINGS, NewRole, at, fetch, on

DRIVERS = ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg", "postgresql+psycopg2"]
NO_EFFECT = "keepalives=1&keepalives_idle=30&keepalives_interval=5&keepalives_count=3&connect_timeout=5"


def has_settings(connection: Connection) -> bool:
    """Whether the session has the settings of a migration."""
    query = text("SELECT current_setting('application_name'), current_setting('lock_timeout')")
    return tuple(connection.execute(query).one()) == ("alembic", "1s")


def sentence_for(url: URL) -> str:
    """The message of a connection that fails, which names a setting and holds no password."""
    with pytest.raises(ConnectionFailedError) as failure:
        on(url, has_settings)
    sentence = str(failure.value)
    assert "TEST_DATABASE_URL" in sentence
    assert str(url.password) not in sentence
    return sentence


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"password": "wr%ong"}, "refused the password of the user 'postgres'"),
        ({"username": "stranger"}, "refused the password of the user 'stranger'"),
        ({"database": "missing"}, "has no database 'missing'"),
        ({"port": 1}, "does not answer at 127.0.0.1:1 (connection refused)"),
        ({"host": "unknown.invalid"}, "does not answer at unknown.invalid"),
        ({"host": ".."}, "does not answer at .."),
        ({"query": {"ssl": "require"}}, "offers no TLS"),
    ],
    ids=["password", "user", "database", "port", "host", "no-name", "ssl"],
)
def test_failure_is_one_sentence(server: URL, change: dict[str, Any], message: str) -> None:
    assert message in sentence_for(server.set(**change))


def test_role_that_may_not_log_in(server: URL, new_role: NewRole) -> None:
    role = new_role("NOLOGIN", "secret")
    message = sentence_for(server.set(username=role, password="secret"))
    assert f'(role "{role}" is not permitted to log in)' in message


def test_missing_socket(tmp_path: Path) -> None:
    url = URL.create("postgresql+asyncpg", "postgres", "secret", query={"host": str(tmp_path)})
    assert f"does not answer at {tmp_path}" in sentence_for(url)


def test_silent_server(server: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (connection, server_errors):
        monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        assert f"does not answer at 127.0.0.1:{port} (no answer within 0.2 s)" in sentence_for(server.set(port=port))


def test_session_settings_are_there_without_a_transaction(server: URL) -> None:
    assert on(server, has_settings)


def test_the_system_notices_that_the_machine_of_the_server_is_gone(server: URL) -> None:
    async def keepalive() -> int:
        async with connected(at(server)) as migration:
            driver_connection: Any = (await migration.get_raw_connection()).driver_connection
            network_socket = driver_connection._transport.get_extra_info("socket")
            return int(network_socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    assert asyncio.run(keepalive()) == 1


def test_run_async_inside_a_running_loop(server: URL) -> None:
    async def application() -> Any:
        return fetch(server, "SELECT 1")

    assert asyncio.run(application()) == [(1,)]
    assert run_async(application()) == [(1,)]


def test_a_cancelled_caller_lets_the_coroutine_clean_up() -> None:
    cleaned_up = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.5)
            cleaned_up.append(True)

    async def application() -> None:
        task = asyncio.current_task()
        assert task is not None
        threading.Timer(0.1, task.cancel).start()  # as the handler of Ctrl-C, which interrupts the loop
        run_async(work())

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(application())
    assert cleaned_up == [True]


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


# ── URLs for other drivers ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with root.crt, and with the certificates of a server and a client, which it has signed."""
    if which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")

    def make(name: str, *options: str) -> None:
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key")
        command = ["openssl", "req", "-x509", *key, "-out", f"{name}.crt", "-subj", f"/CN={name}", *options]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)

    make("root")
    make("other")
    for name in ("server", "client"):
        extensions = ("subjectAltName=IP:127.0.0.1", "basicConstraints=critical,CA:false")
        make(name, *(part for one in extensions for part in ("-addext", one)), "-CA", "root.crt", "-CAkey", "root.key")
    return folder


@pytest.fixture(scope="module")
def tls(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A server that speaks TLS only, and with clients that show a certificate only."""
    try:
        programs = find_programs(17, exactly=True)  # that of the wheel speaks TLS; those of 16 and 18 do not
    except EmbeddedPostgresError as error:
        pytest.skip(f"PostgreSQL 17 is not here: {error}")
    cluster = Cluster(tmp_path_factory.mktemp("tls") / "cluster", programs)
    (certificates / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n")
    files = {"ssl_cert_file": "server.crt", "ssl_key_file": "server.key", "ssl_ca_file": "root.crt"}
    settings = {name: str(certificates / file) for name, file in {**files, "hba_file": "pg_hba.conf"}.items()}
    cluster.start(settings={**THROW_AWAY, **settings, "ssl": "on"})
    yield cluster
    cluster.stop()


def asked(url: str, query: str, programs: Path) -> tuple[Sequence[Any], Sequence[str]]:
    """The row that a query gives to this library, and to psql, when they connect by a URL."""
    database = Database.of(url, SETTINGS)
    row = on(database.url, lambda connection: connection.execute(text(query)).one())
    environment = {"PATH": os.environ["PATH"], **client_environment(database.url)}
    command = [str(programs / "psql"), "--no-psqlrc", "--tuples-only", "--no-align", "--no-password", "-c", query]
    psql = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert psql.returncode == 0, psql.stderr
    return list(row), psql.stdout.strip().split("|")


def with_driver(driver: str, url: URL, query: str) -> str:
    plain = url.set(drivername=driver, query={}).render_as_string(hide_password=False)
    return f"{plain}?{query}"


@pytest.mark.parametrize("driver", DRIVERS)
def test_certificates_carry_over(driver: str, tls: Cluster, certificates: Path) -> None:
    files = f"sslcert={certificates}/client.crt&sslkey={certificates}/client.key"
    verified = f"sslmode=verify-full&sslrootcert={certificates}/root.crt"
    query = "SELECT client_dn, current_setting('search_path') FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    options = f"options=-csearch_path%3Dother&{NO_EFFECT}"
    ours, psqls = asked(with_driver(driver, tls.url(), f"{verified}&{files}&{options}"), query, tls.programs)
    assert ours == psqls == ["/CN=client", "other"]
    for refused in (
        f"{verified}&{options}",
        f"{verified.replace('root.crt', 'other.crt')}&{files}",
        f"{verified.replace('root.crt', 'missing.crt')}&{files}",
        f"sslmode=disable&{files}",
    ):
        sentence_for(Database.of(with_driver(driver, tls.url(), refused), SETTINGS).url)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("hosts", ["host=127.0.0.1:$dead&host=127.0.0.1:$", "host=127.0.0.1,127.0.0.1&port=$dead,$"])
def test_several_hosts(driver: str, hosts: str, server: URL) -> None:
    dead = free_port()
    hosts = hosts.replace("$dead", str(dead)).replace("$", str(server.port))
    url = with_driver(driver, server.set(host=None, port=None), f"{hosts}&sslmode=prefer&{NO_EFFECT}")
    ours, psqls = asked(url, "SELECT current_database(), 1", find_programs(18))
    assert list(map(str, ours)) == psqls == [server.database, "1"]
    url = url.replace(str(server.port), str(free_port()))
    assert f"127.0.0.1:{dead}, 127.0.0.1:" in sentence_for(Database.of(url, SETTINGS).url), "both are named"


def test_all_that_psql_has_a_variable_for_carries_over() -> None:
    variables = {
        "sslmode": ("PGSSLMODE", "verify-ca"),
        "sslrootcert": ("PGSSLROOTCERT", "root.crt"),
        "sslcert": ("PGSSLCERT", "client.crt"),
        "sslkey": ("PGSSLKEY", "client.key"),
        "sslcrl": ("PGSSLCRL", "root.crl"),
        "sslnegotiation": ("PGSSLNEGOTIATION", "direct"),
        "ssl_min_protocol_version": ("PGSSLMINPROTOCOLVERSION", "TLSv1.2"),
        "ssl_max_protocol_version": ("PGSSLMAXPROTOCOLVERSION", "TLSv1.3"),
        "passfile": ("PGPASSFILE", "passwords"),
        "krbsrvname": ("PGKRBSRVNAME", "service"),
        "gsslib": ("PGGSSLIB", "gssapi"),
        "options": ("PGOPTIONS", "-cgeqo=off -csearch_path=a,b"),
        "target_session_attrs": ("PGTARGETSESSIONATTRS", "read-write"),
    }
    parameters = {name: value for name, (_, value) in variables.items()}
    url = URL.create("postgresql+psycopg", "somebody", "p@ss", "host", None, "orders", parameters)
    login = {"PGHOST": "host", "PGUSER": "somebody", "PGPASSWORD": "p@ss", "PGDATABASE": "orders"}
    assert client_environment(Database.of(url, SETTINGS).url) == login | dict(variables.values())


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("mysql+pymysql://u:s3cret@h/d", "mysql"),
        ("cockroachdb://u:s3cret@h/d", "cockroachdb"),
        ("sqlite:///s3cret", "sqlite"),
        ("s3cret", "TEST_DATABASE_URL"),
        ("", "TEST_DATABASE_URL"),
        ("postgresql://u:s3cret@h:port/d", "TEST_DATABASE_URL"),
        ("postgresql://u:s3cret@one:5433,two:5434/d", "TEST_DATABASE_URL"),
        ("postgresql://u:s3cret@h:99999/d", "port"),
        ("postgresql://u:begin@s3cret@h/d", "percent-encode"),
        ("postgresql://u:begin@s3:cret@h/d", "percent-encode"),
        ("postgresql+psycopg://u:s3cret@h/d?sslmode=maybe", "sslmode"),
        ("postgresql+psycopg2://u:s3cret@h/d?service=s3cret", "service"),
        ("postgresql+psycopg://u:s3cret@/d?host=one,two&port=5433", "ports"),
    ],
)
def test_other_urls_are_refused_and_not_shown(url: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as refusal:
        Database.of(url, SETTINGS)
    assert "TEST_DATABASE_URL" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    for secret in ("s3", "cret", "begin"):
        assert secret not in str(refusal.value)


@pytest.mark.parametrize(
    ("statement", "shown", "hidden"),
    [
        ("ALTER TABLE item DROP COLUMN name", "view names depends on column name of table item", "CASCADE"),
        ("ALTER TABLE item ALTER name TYPE varchar(9)", "on view names depends on column", "hunter2"),
        ("CREATE EXTENSION missing", "must first be installed on the system where PostgreSQL is running", "hunter2"),
        ("SELECT nam FROM item", "item.name", "hunter2"),
        ("INSERT INTO item VALUES ('hunter2')", "item_name", "hunter2"),
        ("INSERT INTO part VALUES ('hunter3')", "part_name_fkey", "hunter3"),
    ],
)
def test_detail_and_hint_where_they_are_the_answer(database: URL, statement: str, shown: str, hidden: str) -> None:
    fetch(database, "CREATE TABLE item (name text CONSTRAINT item_name UNIQUE)")
    fetch(database, "CREATE TABLE part (name text REFERENCES item (name))")
    fetch(database, "CREATE VIEW names AS SELECT name FROM item")
    fetch(database, "INSERT INTO item VALUES ('hunter2')")
    with pytest.raises(DBAPIError) as failure:
        fetch(database, statement)
    assert shown in reason(failure.value)
    assert hidden not in reason(failure.value)


def test_connections_of_a_database_share_an_engine(server: URL) -> None:
    """SQLAlchemy asks for the version, the schema and more on an engine's first connection only."""
    database = at(server)

    async def connect(**options: Any) -> bool:
        async with connected(database, **options) as migration:
            return await migration.run_sync(has_settings)

    assert run_async(connect())
    assert run_async(connect(isolation_level="AUTOCOMMIT"))
    assert len(database.engines) == 1


def test_no_connection_is_left_open(database: URL) -> None:
    async def connect_twice() -> int:
        async with connected(at(database)):
            pass
        async with connected(at(database)) as connection:
            count = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            return int(await connection.scalar(count) or 0)

    assert run_async(connect_twice()) == 1, "only the one that asks"


def test_statements_are_compiled_once_for_all_connections(server: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """That a key of SQLAlchemy's cache begins with the dialect is private."""
    cache = CompiledStatements(10)
    monkeypatch.setitem(connection._common_options, "compiled_cache", cache)
    on(server, has_settings)
    compiled = len(cache)
    on(server, has_settings)
    assert len(cache) == compiled == 1
