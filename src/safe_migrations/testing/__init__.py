"""Fixtures for the tests of a service: databases of their own, on an ephemeral PostgreSQL.

    pytest_plugins = ["safe_migrations.testing"]

The server is the one of <PREFIX>_TEST_DATABASE_URL, if that is set, else an embedded one. Each test gets a database of
its own, dropped afterwards; nothing here touches the database that the service is configured for. The tests that every
service needs are in `safe_migrations.testing.suite`.

PYTEST_DONT_REWRITE: a conftest.py may import from here before pytest does, and nothing is asserted here.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Row, text

from safe_migrations import env_files
from safe_migrations.dev.cluster import server_for_tests
from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.postgres.creation import create_database, drop_database
from safe_migrations.postgres.database import Database as Connectable
from safe_migrations.service import Service
from safe_migrations.upgrade.project import DATABASE_URL, Project, load_project

__all__ = ["Database"]

pytest.register_assert_rewrite("safe_migrations.testing.suite")


@dataclass(frozen=True)
class Database:
    """A throw-away database.

    Attributes:
        url: where it is.
        service: whose it is.
    """

    url: URL
    service: Service

    def alembic(self, function: Callable[..., object], *arguments: Any, **options: Any) -> None:
        """Call an Alembic command on this database: `database.alembic(command.upgrade, "head")`.

        Args:
            function: of `alembic.command`.
            arguments: that it takes after the configuration.
            options: likewise.
        """
        function(self.config(), *arguments, **options)

    def config(self) -> Config:
        """Alembic's configuration, whose commands go to this database."""
        return Config(self.service.config_file, attributes={DATABASE_URL: self.url})

    def fetch(self, statement: str) -> list[Row[Any]]:
        """The rows of a statement, on a new connection, which sees only what was committed.

        Args:
            statement: of SQL.
        """

        async def fetch() -> list[Row[Any]]:
            async with connected(self.connectable, isolation_level="AUTOCOMMIT") as connection:
                return list((await connection.execute(text(statement))).all())

        return run_async(fetch())

    def tables(self) -> set[str]:
        """The tables of the default schema."""
        return {row.tablename for row in self.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}

    @property
    def connectable(self) -> Connectable:
        """The database, as the library knows it."""
        return Connectable(self.url, self.service)


@pytest.fixture(scope="session")
def alembic_ini(pytestconfig: pytest.Config) -> Path:
    """The service's `alembic.ini`; define this fixture in conftest.py where the file is elsewhere."""
    return pytestconfig.rootpath / "alembic.ini"


@pytest.fixture(scope="session")
def service(alembic_ini: Path) -> Service:
    """What `alembic.ini` says of the service."""
    return Service.read(alembic_ini)


@pytest.fixture(scope="session")
def project(alembic_ini: Path) -> Project:
    """The project, as `env.py` describes it."""
    return load_project(Config(alembic_ini))


@pytest.fixture(scope="session")
def scripts(alembic_ini: Path) -> ScriptDirectory:
    """The revisions."""
    return ScriptDirectory.from_config(Config(alembic_ini))


@pytest.fixture
def no_configuration(service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing of the developer's configuration reaches a test; returns the `.env` that a test may write."""
    for variable in list(os.environ):
        if variable.startswith((f"{service.env_prefix}_", f"{service.platform_prefix}_")):
            monkeypatch.delenv(variable)
    env_file = tmp_path / ".env"
    monkeypatch.setattr(env_files, "env_files", lambda _folder: [env_file])
    return env_file


@pytest.fixture(scope="session")
def server(service: Service) -> Iterator[URL]:
    """A database of a server where this user may create databases."""
    with server_for_tests(service) as url:
        yield url


@pytest.fixture(scope="session")
def template_database(server: URL, service: Service) -> Iterator[Database]:
    """A database at head. The tests' databases are copies of it, which is faster than migrating each."""
    with throw_away_database(server, service) as database:
        database.alembic(command.upgrade, "heads")
        yield database


@pytest.fixture
def database(server: URL, template_database: Database) -> Iterator[Database]:
    """A database at head."""
    with throw_away_database(server, template_database.service, template_database.url.database) as database:
        yield database


@pytest.fixture
def configured(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database at head, for which the service is configured."""
    url = database.url.render_as_string(hide_password=False)
    monkeypatch.setenv(database.service.variable("DATABASE_URL"), url)
    return database


@pytest.fixture
def empty_database(server: URL, service: Service) -> Iterator[Database]:
    """A database without tables."""
    with throw_away_database(server, service) as database:
        yield database


@contextmanager
def throw_away_database(server: URL, service: Service, template: str | None = None) -> Iterator[Database]:
    """A database that is dropped at the end.

    Args:
        server: any database of the server.
        service: whose it is.
        template: the database of which it is a copy; by default there is nothing in it.
    """
    name = f"test_{uuid4().hex}"
    run_async(create_database(Connectable(server, service), name, template or "template1"))
    try:
        yield Database(server.set(database=name), service)
    finally:
        run_async(drop_database(Connectable(server, service), name))
