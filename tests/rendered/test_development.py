"""db-up, db-down and db-shell: a PostgreSQL for development, without Docker."""

import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from dotenv import dotenv_values
from sqlalchemy import make_url

from safe_migrations.dev.cluster import free_port
from support import Render, Service, tables

SAFE_MIGRATIONS = ("safe-migrations",)


@pytest.fixture
def service(render: Render) -> Iterator[Service]:
    """A service that nothing is configured for; its development database is stopped at the end."""
    service = render(database_port=free_port())
    yield service
    service.succeed(*SAFE_MIGRATIONS, "db-down")


def configured_url(folder: Path) -> str:
    return dotenv_values(folder / ".env")["ORDERS_DATABASE_URL"] or ""


def test_from_nothing_to_a_migrated_database(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGSSLMODE", raising=False)  # clients ask for TLS, which this server does not speak
    service.succeed("git", "init", "--quiet")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        service.environment["ORDERS_DB_PORT"] = str(other.getsockname()[1])
        assert "_DB_PORT" in service.fail(*SAFE_MIGRATIONS, "db-up")
    assert not (service.folder / ".env").exists(), "the port is taken"

    service.environment.clear()
    output = service.succeed(*SAFE_MIGRATIONS, "db-up")
    url = make_url(configured_url(service.folder))
    assert str(service.folder / ".env") in output
    assert str(url.password) not in output
    assert stat.S_IMODE((service.folder / ".env").stat().st_mode) == 0o600
    assert (url.host, url.database) == ("127.0.0.1", "orders")
    changed = service.succeed("git", "status", "--porcelain", "--untracked-files=all")
    assert ".env.example" in changed
    assert " .env\n" not in changed
    assert ".postgres" not in changed

    service.succeed("alembic", "upgrade", "head")
    assert "at head" in service.succeed("python", "-m", "database")
    assert "item" in service.succeed(*SAFE_MIGRATIONS, "db-shell", input=r"\dt")

    again = service.succeed(*SAFE_MIGRATIONS, "db-up")
    assert ".env" not in again, "the second time there is nothing to write"
    assert "\nalembic upgrade head\n" in again
    service.succeed(*SAFE_MIGRATIONS, "db-down")
    assert "does not answer" in service.fail("alembic", "current")
    service.succeed(*SAFE_MIGRATIONS, "db-up")
    assert "item" in tables(url.set(drivername="postgresql+asyncpg")), "data stays over a restart"


def test_what_env_file_holds_already_is_kept(service: Service) -> None:
    env_file = service.folder / ".env"

    def db_up(configured: str) -> str:
        env_file.write_text(configured)
        return service.succeed(*SAFE_MIGRATIONS, "db-up")

    for configured in (
        "ORDERS_DATABASE_URL=postgresql://somebody:s3cret@elsewhere/orders\n",
        "ORDERS_DB_HOST=elsewhere\nORDERS_DB_USER=somebody\nORDERS_DB_PASSWORD=s3cret\n",
    ):
        output = db_up(configured)
        assert "Migrations still go to postgresql+asyncpg://somebody:***@elsewhere" in output
        assert "To use this database, remove" in output
        assert "s3cret" not in output
        assert env_file.read_text() == configured

    output = db_up("ORDERS_MIGRATION_DATABASE_URL=postgresql://owner:s3cret@production/orders\n")
    assert "Migrations still go to postgresql+asyncpg://owner:***@production/orders" in output
    assert "alembic upgrade head" not in output

    db_up("# mine\nOTHER='x y'\nORDERS_DATABASE_URL=\n")
    assert env_file.read_text().startswith("# mine\nOTHER='x y'\nORDERS_DATABASE_URL='postgresql://")
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600


@pytest.mark.thorough("test_settings reads one above, and another test here writes beside what is there")
def test_an_env_file_above_is_read_and_never_written(render: Render, tmp_path: Path) -> None:
    """A monorepo's shared login is for other databases; the development database gets a URL of the service's own."""
    shared = tmp_path / "repository" / ".env"
    shared.parent.mkdir()
    shared.write_text("PLATFORM_DB_USER=shared\nPLATFORM_DB_PASSWORD=s3cret\n")
    shared.chmod(0o644)
    service = render(shared.parent / "services" / "orders", layout="monorepo", database_port=free_port())
    try:
        assert "\nalembic upgrade head\n" in service.succeed(*SAFE_MIGRATIONS, "db-up")
        service.succeed("alembic", "upgrade", "head")
    finally:
        service.succeed(*SAFE_MIGRATIONS, "db-down")
    assert shared.read_text() == "PLATFORM_DB_USER=shared\nPLATFORM_DB_PASSWORD=s3cret\n"
    assert stat.S_IMODE(shared.stat().st_mode) == 0o644


@pytest.mark.thorough("test_embedded looks whom root runs a server as")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
def test_root_stops_the_server_of_another_user(service: Service) -> None:
    service.succeed(*SAFE_MIGRATIONS, "db-up")
    service.succeed(*SAFE_MIGRATIONS, "db-down")
    subprocess.run(["chown", "--recursive", "daemon:daemon", service.folder / ".postgres"], check=True)
    service.succeed(*SAFE_MIGRATIONS, "db-up")
    data = service.folder / ".postgres" / "data"
    pid = int((data / "postmaster.pid").read_text().splitlines()[0])
    assert Path(f"/proc/{pid}").stat().st_uid == data.stat().st_uid
    service.succeed(*SAFE_MIGRATIONS, "db-down")
    assert "does not answer" in service.fail("alembic", "current")


@pytest.mark.thorough("another test here sees what is said of a taken port")
def test_another_port_after_all(service: Service) -> None:
    """What the message about a taken port advises, when .env has the URL already."""
    service.succeed(*SAFE_MIGRATIONS, "db-up")
    service.succeed(*SAFE_MIGRATIONS, "db-down")
    port = free_port()
    with (service.folder / ".env").open("a") as env_file:
        env_file.write(f"ORDERS_DB_PORT={port}\n")
    assert "\nalembic upgrade head\n" in service.succeed(*SAFE_MIGRATIONS, "db-up")
    assert make_url(configured_url(service.folder)).port == port
    service.succeed("alembic", "upgrade", "head")


@pytest.mark.thorough("test_embedded meets data that its programs can not read")
def test_data_of_a_version_that_is_gone(service: Service) -> None:
    service.succeed(*SAFE_MIGRATIONS, "db-up")
    service.succeed(*SAFE_MIGRATIONS, "db-down")
    version = service.folder / ".postgres" / "data" / "PG_VERSION"
    version.write_text("9\n")
    sentence = service.fail(*SAFE_MIGRATIONS, "db-up")
    assert "PostgreSQL 9" in sentence
    assert str(version.parent) in sentence
    assert sentence.endswith(" && safe-migrations db-up")
    version.write_text("18\n")
