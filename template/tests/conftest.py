"""Databases for the tests, on an ephemeral PostgreSQL.

The server is the one of <PREFIX>_TEST_DATABASE_URL, if that is set, else an embedded one. Each test gets a database
of its own, dropped afterwards; nothing here touches the database that the service is configured for.
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
from sqlalchemy import URL, Row, text

import config
from safe_migrations import environment
from safe_migrations.connection import connected, run_async
from safe_migrations.databases import create_database, drop_database
from safe_migrations.embedded import find_programs, throw_away_cluster

TEST_DATABASE_URL = f"{config.ENV_PREFIX}_TEST_DATABASE_URL"


@dataclass(frozen=True)
class Database:
    """A throw-away database."""

    url: URL

    def alembic(self, function: Callable[..., object], *arguments: Any, **options: Any) -> None:
        """Call an Alembic command on this database: `database.alembic(command.upgrade, "head")`."""
        with pytest.MonkeyPatch.context() as patch:
            url = self.url.render_as_string(hide_password=False)
            patch.setenv(f"{config.ENV_PREFIX}_MIGRATION_DATABASE_URL", url)
            function(Config(config.SERVICE_FOLDER / "alembic.ini"), *arguments, **options)

    def fetch(self, statement: str) -> list[Row[Any]]:
        """The rows of a statement, on a new connection, which sees only what was committed."""

        async def fetch() -> list[Row[Any]]:
            async with connected(self.url, config.ENV_PREFIX, isolation_level="AUTOCOMMIT") as connection:
                return list((await connection.execute(text(statement))).all())

        return run_async(fetch())

    def tables(self) -> set[str]:
        """The tables that exist."""
        return {row.tablename for row in self.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing of the developer's configuration reaches a test; returns the .env that a test may write."""
    for variable in list(os.environ):
        if variable.startswith((f"{config.ENV_PREFIX}_", f"{config.PLATFORM_PREFIX}_")):
            monkeypatch.delenv(variable)
    env_file = tmp_path / ".env"
    monkeypatch.setattr(environment, "ENV_FILES", [env_file])
    return env_file


@pytest.fixture(scope="session")
def server() -> Iterator[URL]:
    """A database of a server where this user may create others."""
    given = (environment.read_env_files() | os.environ).get(TEST_DATABASE_URL)
    if given:
        yield config.parse_database_url(given, TEST_DATABASE_URL)
    else:
        with throw_away_cluster(find_programs(config.POSTGRES_VERSION)) as cluster:
            yield cluster.url()


@pytest.fixture(scope="session")
def template_database(server: URL) -> Iterator[Database]:
    """A database at head, which others are copied from: faster than migrating each."""
    with throw_away_database(server) as database:
        database.alembic(command.upgrade, "head")
        yield database


@pytest.fixture
def database(server: URL, template_database: Database) -> Iterator[Database]:
    """A database at head."""
    with throw_away_database(server, template_database.url.database) as database:
        yield database


@pytest.fixture
def configured(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """The service, configured for a database at head."""
    monkeypatch.setenv(f"{config.ENV_PREFIX}_DATABASE_URL", database.url.render_as_string(hide_password=False))
    return database


@pytest.fixture
def empty_database(server: URL) -> Iterator[Database]:
    """A database without tables."""
    with throw_away_database(server) as database:
        yield database


@contextmanager
def throw_away_database(server: URL, template: str | None = None) -> Iterator[Database]:
    """A database that is dropped at the end, made as a copy of another one."""
    name = f"test_{uuid4().hex}"
    run_async(create_database(server, config.ENV_PREFIX, name, template or "template1"))
    try:
        yield Database(server.set(database=name))
    finally:
        run_async(drop_database(server, config.ENV_PREFIX, name))
