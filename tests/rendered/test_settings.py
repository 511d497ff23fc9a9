"""config.py in a rendering: .env found from anywhere, any password, no secret in any output."""

import os
import re
import shutil
from pathlib import Path

import pytest
from dotenv import set_key
from sqlalchemy import URL

from safe_migrations.postgres.programs import find_programs
from support import NewDatabase, NewRole, Render, Service, as_text, bare_python, fetch, tables

PASSWORDS = [
    "per%cent",
    "at@sign",
    "co:lon",
    "sl/ash",
    "ha#sh",
    "a space",
    "'single'",
    '"double"',
    "${HOME}",
    "\\n",
    "é",
]

SHOW_USER = "from config import load_settings; print(load_settings().database_url.username)"


@pytest.fixture(scope="session")
def roles(new_role: NewRole) -> dict[str, str]:
    """A role for each password."""
    return {password: new_role("LOGIN SUPERUSER", password) for password in PASSWORDS}


IN_A_FILE = pytest.param(
    ".env", marks=pytest.mark.thorough("test_quick reads such passwords from a file, by the same function")
)


@pytest.mark.parametrize("source", [IN_A_FILE, "url"])
def test_any_password(service: Service, database: URL, roles: dict[str, str], source: str) -> None:
    place = {
        "ORDERS_DB_HOST": str(database.host),
        "ORDERS_DB_PORT": str(database.port),
        "ORDERS_DB_NAME": str(database.database),
    }
    command = ["alembic", "upgrade", "head"]
    for password, role in roles.items():
        service.environment = dict(place)
        if source == ".env":
            for name, value in {"ORDERS_DB_USER": role, "ORDERS_DB_PASSWORD": password}.items():
                set_key(service.folder / ".env", name, value)
        else:
            service.configure(database.set(username=role, password=password))
        process = service.run(*command)
        assert process.returncode == 0, process.stderr
        assert tables(database) == {"alembic_version", "item"}
        assert password not in process.stdout + process.stderr
        command = ["alembic", "current"]


def test_env_file_is_found_from_any_working_directory(service: Service, tmp_path: Path) -> None:
    service.environment.clear()
    (service.folder / ".env").write_text("ORDERS_DATABASE_URL=postgresql://from_file@host/name\n")
    show = f"import sys; sys.path.insert(0, {str(service.folder)!r}); {SHOW_USER}"
    for folder in (service.folder, service.folder / "alembic", tmp_path, Path("/")):
        assert service.succeed("python", "-c", show, folder=folder).strip() == "from_file"


def test_env_file_is_looked_for_upward_and_the_nearest_wins(render: Render, tmp_path: Path) -> None:
    service = render(tmp_path / "repository" / "services" / "orders", layout="monorepo")
    for folder in (tmp_path / "repository", service.folder):
        (folder / ".env").write_text(f"PLATFORM_DB_USER={folder.name}\nPLATFORM_DB_PASSWORD=secret\n")
        assert service.succeed("python", "-c", SHOW_USER).strip() == folder.name


def test_service_and_monorepo_share_their_files(render: Render, tmp_path: Path) -> None:
    service = render(tmp_path / "repository" / "services" / "orders", layout="monorepo")
    (tmp_path / "repository" / ".env").write_text("PLATFORM_DB_USER=shared\nPLATFORM_DB_PASSWORD=secret\n")
    (service.folder / ".env").write_text("ORDERS_DB_NAME=own\nPLATFORM_DB_USER=\n")
    assert service.succeed("python", "-c", SHOW_USER).strip() == "shared"
    assert service.succeed("python", "-c", SHOW_USER.replace("username", "database")).strip() == "own"


def test_url_without_a_database_means_the_services_own(service: Service) -> None:
    service.environment = {"ORDERS_DATABASE_URL": "postgresql://user@host"}
    assert service.succeed("python", "-c", SHOW_USER.replace("username", "database")).strip() == "orders"


def test_environment_wins_over_env_file(service: Service) -> None:
    (service.folder / ".env").write_text("ORDERS_DATABASE_URL=postgresql://from_file@host/name\n")
    service.environment = {"ORDERS_DATABASE_URL": "postgresql://from_environment@host/name"}
    assert service.succeed("python", "-c", SHOW_USER).strip() == "from_environment"


def test_empty_means_not_set(service: Service) -> None:
    (service.folder / ".env").write_text("ORDERS_DATABASE_URL=postgresql://from_file@host/name\n")
    service.environment = {"ORDERS_DATABASE_URL": ""}
    assert service.succeed("python", "-c", SHOW_USER).strip() == "from_file"


def test_migrations_take_their_own_url(service: Service, new_database: NewDatabase, database: URL) -> None:
    other = new_database()
    service.configure(other)
    service.environment["ORDERS_MIGRATION_DATABASE_URL"] = database.set(drivername="postgres").render_as_string(
        hide_password=False
    )
    service.succeed("alembic", "upgrade", "head")
    assert "item" in tables(database)
    assert tables(other) == set()


def test_url_of_a_platform_with_sslmode(service: Service, database: URL) -> None:
    url = database.set(drivername="postgres", query={"sslmode": "disable"}).render_as_string(hide_password=False)
    service.environment = {"ORDERS_DATABASE_URL": url}
    service.succeed("alembic", "upgrade", "head")
    service.environment = {"ORDERS_DATABASE_URL": url.replace("disable", "require")}
    assert "offers no TLS" in service.fail("alembic", "current")


def test_other_programs_get_no_variable_of_the_env_file(at_head: Service, database: URL, tmp_path: Path) -> None:
    """Neither secrets nor code to load; what the environment has, and PostgreSQL's own variables, they get."""
    real = {name: find_programs(18) / name for name in ("pg_dump", "pg_restore")}
    real["ruff"] = Path(str(shutil.which("ruff")))
    (tmp_path / "programs").mkdir()
    for name, path in real.items():
        program = tmp_path / "programs" / name
        program.write_text(f'#!/bin/sh\nenv >>{tmp_path}/{name}.log\nexec {path} "$@"\n')
        program.chmod(0o755)
    (at_head.folder / ".env").write_text(
        f"ORDERS_DATABASE_URL={as_text(database)}\nAPP_SECRET=hunter2\nLD_PRELOAD=/missing.so\nPGTZ=UTC\n"
    )
    at_head.environment = {"OWN": "of-environment"}
    fetch(database, "ALTER TABLE item ADD COLUMN note text")
    python = str(bare_python(tmp_path / "bare"))  # without ruff, which is looked for beside it first
    for command in (
        ("safe_migrations", "backup", "file.dump"),
        ("alembic", "revision", "--autogenerate", "-m", "drop the note"),
    ):
        process = at_head.run(python, "-m", *command, path=f"{tmp_path / 'programs'}{os.pathsep}{os.environ['PATH']}")
        assert process.returncode == 0, process.stderr
        assert "LD_PRELOAD" not in process.stderr
    logs = {name: (tmp_path / f"{name}.log").read_text() for name in real}
    for name, log in logs.items():
        assert not re.search("APP_SECRET|LD_PRELOAD", log), name
        assert "OWN=of-environment\n" in log
        assert ("PGTZ=UTC\n" in log) is (name in ("pg_dump", "pg_restore"))
