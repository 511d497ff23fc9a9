"""`fleet reset`: development databases are reset, and what may be another database is left alone."""

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from safe_migrations.dev.cluster import Cluster, free_port
from safe_migrations.dev.database import FOLDER
from safe_migrations.errors import MigrationError, NotConfirmedError
from safe_migrations.fleet import reset
from safe_migrations.fleet.development import examine
from safe_migrations.fleet.processes import Jobs
from safe_migrations.fleet.services import Member, find_services
from safe_migrations.postgres.programs import find_programs
from small_service import make_service
from support import fetch, on, tables

PASSWORD = "a-password"


def cluster_of(folder: Path) -> Cluster:
    return Cluster(folder / FOLDER, find_programs(18))


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Two services without a database."""
    for name in ("billing", "orders"):
        make_service(tmp_path / name, free_port())
    yield tmp_path
    for name in ("billing", "orders"):
        cluster_of(tmp_path / name).stop()


@pytest.mark.usefixtures("forked_copier")
def test_reset(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (orders,) = find_services(root, ["orders"])
    assert reset.run([orders], Jobs(2), yes=True) == 0, capsys.readouterr().out
    url = cluster_of(root / "orders").url("orders")
    assert tables(url) == {"alembic_version", "t1"}

    fetch(url, "INSERT INTO t1 VALUES (7)")
    members = find_services(root)
    with pytest.raises(NotConfirmedError, match=r"(?s)orders/\.postgres/data.*database orders.*--yes"):
        reset.run(members, Jobs(2), yes=False)
    with pytest.raises(NotConfirmedError, match=r"(?s)^((?!billing).)*orders: Other programs .* alembic "):
        on(url, lambda _: reset.run(members, Jobs(2), yes=True))
    fetch(url, "CREATE DATABASE orders_prod")
    with pytest.raises(NotConfirmedError, match="orders_prod"):
        reset.run(members, Jobs(2), yes=True)
    assert fetch(url, "SELECT * FROM t1") == [(7,)]
    assert not (root / "billing" / FOLDER).exists(), "nothing was changed anywhere"

    fetch(url, "DROP DATABASE orders_prod")
    (root / "orders" / FOLDER / "deleted").mkdir()  # as a kill may leave it
    assert reset.run([orders], Jobs(2), yes=True) == 0, capsys.readouterr().out
    assert fetch(url, "SELECT * FROM t1") == [], "the password is the same"
    assert not (root / "orders" / FOLDER / "deleted").exists()


@pytest.fixture
def member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Member:
    """A service with files as those of a stopped cluster."""
    folder = make_service(tmp_path / "orders", free_port())
    data = folder / FOLDER / "data"
    data.joinpath("global").mkdir(parents=True)
    folder.joinpath(FOLDER, "password").write_text(PASSWORD)
    data.joinpath("PG_VERSION").write_text("18\n")
    created = int(time.time()) << 32
    data.joinpath("global", "pg_control").write_bytes(created.to_bytes(8, "little"))
    configure(monkeypatch, "localhost")
    (member,) = find_services(tmp_path)
    return member


def configure(
    monkeypatch: pytest.MonkeyPatch, host: str, *, password: str = PASSWORD, database: str = "orders"
) -> None:
    url = URL.create("postgresql", "postgres", password, host, 5432, database)
    monkeypatch.setenv("ORDERS_DATABASE_URL", url.render_as_string(hide_password=False))


def test_a_stopped_cluster_may_be_reset(member: Member) -> None:
    database = examine(member)
    assert str(database.folder / "data") in database.contents[0]
    assert not database.is_running


@pytest.mark.parametrize(
    ("configured", "reason"),
    [
        ({"host": "db.example.com"}, r"db\.example\.com"),
        ({"host": "10.0.0.7"}, r"10\.0\.0\.7"),
        ({"host": "localhost", "password": "another"}, "not the embedded cluster"),
        ({"host": "localhost", "database": "orders_prod"}, "orders_prod"),
        ({"host": "localhost", "database": "Live"}, "Live"),
        ({"host": "localhost", "database": "preprod2"}, "preprod2"),
    ],
)
def test_an_address_elsewhere(
    member: Member, monkeypatch: pytest.MonkeyPatch, configured: dict[str, str], reason: str
) -> None:
    configure(monkeypatch, **configured)
    with pytest.raises(MigrationError, match=reason) as refusal:
        examine(member)
    assert configured.get("password", PASSWORD) not in str(refusal.value)


@pytest.mark.parametrize("database", ["products_delivery", "reproducible", "backstage"])
def test_names_that_only_have_the_letters(member: Member, monkeypatch: pytest.MonkeyPatch, database: str) -> None:
    configure(monkeypatch, "localhost", database=database)
    examine(member)


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        ("@db.example.com/orders", "db.example.com"),
        (":a-password@localhost/orders?host=db.example.com", "parameters"),
        (":a-password@localhost/orders?port=6432", "parameters"),
    ],
)
def test_migrations_go_elsewhere(member: Member, monkeypatch: pytest.MonkeyPatch, server: str, reason: str) -> None:
    monkeypatch.setenv("ORDERS_MIGRATION_DATABASE_URL", f"postgresql://postgres{server}")
    with pytest.raises(MigrationError, match=f"ORDERS_MIGRATION_DATABASE_URL .*{reason}"):
        examine(member)


def _symlink(folder: Path) -> None:
    folder.joinpath("data").rename(folder.parent / "elsewhere")
    folder.joinpath("data").symlink_to(folder.parent / "elsewhere")


def _tablespace(folder: Path) -> None:
    folder.joinpath("data", "pg_tblspc").mkdir()
    folder.joinpath("data", "pg_tblspc", "16384").symlink_to(folder.parent)


def _older(folder: Path) -> None:
    (folder / "data" / "global" / "pg_control").write_bytes(((int(time.time()) - 3600) << 32).to_bytes(8, "little"))


def _of_another_cluster(folder: Path) -> None:
    (folder / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n/srv/postgres\n0\n5432\n")


def _of_a_container(folder: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()  # its id is no process's
    (folder / "data" / "postmaster.pid").write_text(f"{process.pid}\n/var/lib/postgresql/data\n0\n5432\n")


def _reused_process_id(folder: Path) -> None:
    (folder / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{folder / 'data'}\n0\n{free_port()}\n")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_symlink, "symbolic link"),
        (_tablespace, "symbolic link"),
        (_older, "is older"),
        (_of_another_cluster, "/srv/postgres"),
        (_of_a_container, "/var/lib/postgresql"),
        (_reused_process_id, "does not accept"),
        (lambda folder: (folder / "password").unlink(), "is not the embedded cluster|no file `password`"),
        (lambda folder: (folder / "data" / "standby.signal").touch(), "standby"),
        (lambda folder: (folder / "data" / "postmaster.pid").write_text("?"), "postmaster"),
        pytest.param(
            lambda folder: os.chown(folder, 1, 1),
            "another user",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away"),
        ),
    ],
)
def test_a_folder_that_is_not_certainly_ours(member: Member, change: Callable[[Path], object], reason: str) -> None:
    change(member.folder / FOLDER)
    with pytest.raises(MigrationError, match=reason):
        examine(member)


def test_a_taken_port(member: Member) -> None:
    async def examine_beside_a_server() -> None:
        assert member.service is not None
        async with await asyncio.start_server(lambda *_: None, "127.0.0.1", member.service.database_port):
            with pytest.raises(MigrationError, match="in use"):
                await asyncio.to_thread(examine, member)

    asyncio.run(examine_beside_a_server())


def test_without_a_prefix(member: Member) -> None:
    file = member.config_file
    file.write_text(file.read_text().replace("env_prefix = ORDERS\n", ""))
    (without,) = find_services(member.folder.parent)
    with pytest.raises(MigrationError, match="env_prefix"):
        examine(without)
