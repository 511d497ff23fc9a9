"""db-up, db-down and db-shell: a PostgreSQL for development, without Docker."""

import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from dotenv import dotenv_values
from sqlalchemy import make_url

from support import Render, Service, free_port, tables

SAFE_MIGRATIONS = ("python", "-m", "safe_migrations")


@pytest.fixture
def service(render: Render) -> Iterator[Service]:
    """A service that nothing is configured for; its development database is stopped at the end."""
    service = render(database_port=free_port())
    yield service
    service.succeed(*SAFE_MIGRATIONS, "db-down")


def configured_url(folder: Path) -> str:
    return dotenv_values(folder / ".env")["ORDERS_DATABASE_URL"] or ""


def test_from_nothing_to_a_migrated_database(service: Service) -> None:
    said = service.succeed(*SAFE_MIGRATIONS, "db-up")
    url = make_url(configured_url(service.folder))
    assert str(service.folder / ".env") in said
    assert str(url.password) not in said
    assert stat.S_IMODE((service.folder / ".env").stat().st_mode) == 0o600
    assert (url.host, url.database) == ("127.0.0.1", "orders")

    service.succeed("alembic", "upgrade", "head")
    assert "The database is at revision" in service.succeed("python", "-m", "database")
    assert "item" in service.succeed(*SAFE_MIGRATIONS, "db-shell", input=r"\dt")

    again = service.succeed(*SAFE_MIGRATIONS, "db-up")
    assert "is now in" not in again, "the second time there is nothing to write"
    service.succeed(*SAFE_MIGRATIONS, "db-down")
    assert "does not answer" in service.fail("alembic", "current")
    service.succeed(*SAFE_MIGRATIONS, "db-up")
    assert "item" in tables(url.set(drivername="postgresql+asyncpg")), "data stays over a restart"


def test_what_env_file_holds_already_is_kept(service: Service) -> None:
    env_file = service.folder / ".env"
    env_file.write_text("# mine\nOTHER='x y'\nORDERS_DATABASE_URL=\n")
    service.succeed(*SAFE_MIGRATIONS, "db-up")
    assert env_file.read_text().startswith("# mine\nOTHER='x y'\nORDERS_DATABASE_URL='postgresql://")
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "configured",
    [
        "ORDERS_DATABASE_URL=postgresql://somebody:s3cret@elsewhere/orders\n",
        "ORDERS_DB_USER=somebody\nORDERS_DB_PASSWORD=s3cret\n",
    ],
    ids=["url", "parts"],
)
def test_another_database_that_is_configured_stays(service: Service, configured: str) -> None:
    (service.folder / ".env").write_text(configured)
    said = service.succeed(*SAFE_MIGRATIONS, "db-up")
    assert "configured for another database already, which stays" in said
    assert "s3cret" not in said
    assert (service.folder / ".env").read_text() == configured


def test_a_port_that_is_taken(service: Service) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        service.environment["ORDERS_DB_PORT"] = str(other.getsockname()[1])
        assert "is taken by another program" in service.fail(*SAFE_MIGRATIONS, "db-up")
    assert not (service.folder / ".env").exists()


def test_git_ignores_it_all(service: Service) -> None:
    service.succeed("git", "init", "--quiet")
    service.succeed(*SAFE_MIGRATIONS, "db-up")
    said = service.succeed("git", "status", "--porcelain", "--untracked-files=all")
    assert ".env.example" in said
    assert " .env\n" not in said
    assert ".postgres" not in said


def test_wrong_usage(service: Service) -> None:
    assert service.run(*SAFE_MIGRATIONS, "db-sideways").returncode == 2
    assert service.run(*SAFE_MIGRATIONS).returncode == 2
