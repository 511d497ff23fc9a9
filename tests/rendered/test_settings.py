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

PASSWORDS = ["per%cent at@sign co:lon sl/ash ha#sh é", "'single'", '"double"', "${HOME} \\n"]

SHOW_USER = "from config import load_settings; print(load_settings().database_url.username)"


@pytest.fixture(scope="session")
def roles(new_role: NewRole) -> dict[str, str]:
    """A role for each password."""
    return {password: new_role("LOGIN SUPERUSER", password) for password in PASSWORDS}


CURRENT_OF_EACH = """
import os, sys
from alembic.config import main

command = "upgrade", "head"
for url in sys.argv[1:]:
    os.environ["ORDERS_DATABASE_URL"] = url
    main(argv=command)
    command = ["current"]
"""


def test_any_password_in_a_url(service: Service, database: URL, roles: dict[str, str]) -> None:
    urls = [as_text(database.set(username=role, password=password)) for password, role in roles.items()]
    process = service.run("python", "-c", CURRENT_OF_EACH, *urls)
    assert process.returncode == 0, process.stderr
    assert tables(database) == {"alembic_version", "item"}
    assert process.stdout.count("(head)") == len(PASSWORDS) - 1
    assert [password for password in PASSWORDS if password in process.stdout + process.stderr] == []


@pytest.mark.thorough("test_quick reads such passwords from a file, by the same function")
def test_any_password_in_a_file(service: Service, database: URL, roles: dict[str, str]) -> None:
    place = {"HOST": database.host, "PORT": database.port, "NAME": database.database}
    service.environment = {f"ORDERS_DB_{name}": str(value) for name, value in place.items()}
    for password, role in roles.items():
        for name, value in {"ORDERS_DB_USER": role, "ORDERS_DB_PASSWORD": password}.items():
            set_key(service.folder / ".env", name, value)
        process = service.run("alembic", "current")
        assert process.returncode == 0, process.stderr
        assert password not in process.stdout + process.stderr


def test_env_file_is_found_from_any_working_directory(render: Render, tmp_path: Path) -> None:
    service = render()
    (service.folder / ".env").write_text("ORDERS_DATABASE_URL=postgresql://from_file@host/name\n")
    show = f"import sys; sys.path.insert(0, {str(service.folder)!r}); {SHOW_USER}"
    for folder in (service.folder, service.folder / "alembic", tmp_path, Path("/")):
        assert service.succeed("python", "-c", show, folder=folder).strip() == "from_file"


def test_env_files_are_looked_for_upward_and_shared_and_the_nearest_wins(render: Render, tmp_path: Path) -> None:
    service = render(tmp_path / "repository" / "services" / "orders", layout="monorepo")
    for folder in (tmp_path / "repository", service.folder):
        (folder / ".env").write_text(f"PLATFORM_DB_USER={folder.name}\nPLATFORM_DB_PASSWORD=secret\n")
        assert service.succeed("python", "-c", SHOW_USER).strip() == folder.name
    (service.folder / ".env").write_text("ORDERS_DB_NAME=own\nPLATFORM_DB_USER=\n")
    show = f"{SHOW_USER}; {SHOW_USER.replace('username', 'database')}"
    assert service.succeed("python", "-c", show).split() == ["repository", "own"]


def test_environment_wins_over_the_file_and_empty_means_not_set(render: Render) -> None:
    service = render()
    service.environment = {"ORDERS_DATABASE_URL": "postgresql://user@host"}
    shown = service.succeed("python", "-c", SHOW_USER.replace("username", "database"))
    assert shown.strip() == "orders", "a URL without a database means the service's own"
    (service.folder / ".env").write_text("ORDERS_DATABASE_URL=postgresql://from_file@host/name\n")
    assert service.succeed("python", "-c", SHOW_USER).strip() == "user"
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


BOTH = """
import sys
from alembic.config import main as alembic
from safe_migrations.cli import main as safe_migrations

sys.argv[1:] = ["backup", "file.dump"]
try:
    safe_migrations()
except SystemExit as end:
    assert not end.code
alembic(argv=["revision", "--autogenerate", "-m", "drop the note"])
"""


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
    process = at_head.run(python, "-c", BOTH, path=f"{tmp_path / 'programs'}{os.pathsep}{os.environ['PATH']}")
    assert process.returncode == 0, process.stderr
    assert "LD_PRELOAD" not in process.stderr
    logs = {name: (tmp_path / f"{name}.log").read_text() for name in real}
    for name, log in logs.items():
        assert not re.search("APP_SECRET|LD_PRELOAD", log), name
        assert "OWN=of-environment\n" in log
        assert ("PGTZ=UTC\n" in log) is (name in ("pg_dump", "pg_restore"))
