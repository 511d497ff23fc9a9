"""One PostgreSQL for the whole run, and `render`: a service of given answers."""

import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from copier import run_copy
from sqlalchemy import URL, make_url

from safe_migrations.embedded import find_programs, throw_away_cluster
from support import ROOT, Render, Service, new_database

# A server of any supported version, with a superuser who needs a password; by default an embedded PostgreSQL 18.
SERVER_URL = "TEST_SERVER_URL"


def pytest_configure(config: pytest.Config) -> None:
    """Start PostgreSQL in the process that starts the workers, which read its URL from the environment."""
    if SERVER_URL in os.environ or config.option.collectonly:
        return
    stack = ExitStack()
    cluster = stack.enter_context(throw_away_cluster(find_programs(18, exactly=True)))
    os.environ[SERVER_URL] = cluster.url().render_as_string(hide_password=False)
    config.add_cleanup(stack.close)


@pytest.fixture(scope="session")
def server() -> URL:
    """The maintenance database of the run's PostgreSQL, as its superuser."""
    return make_url(os.environ[SERVER_URL]).set(drivername="postgresql+asyncpg")


@pytest.fixture
def database(server: URL) -> URL:
    """An empty database."""
    return new_database(server)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template's files, out of their repository: Copier takes them as they are, without cloning first."""
    copy = tmp_path_factory.mktemp("template")
    shutil.copy(ROOT / "copier.yml", copy)
    shutil.copytree(ROOT / "template", copy / "template", ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    return copy


@pytest.fixture
def render(template: Path, tmp_path: Path) -> Render:
    """Render a service: `render(outbox=True)`. It asks for no trust, as `copier copy` without --trust."""

    def render(folder: Path | None = None, /, **answers: Any) -> Service:
        answers = {"service_name": "orders", **answers}
        destination = folder or tmp_path / answers["service_name"]
        run_copy(str(template), destination, data=answers, defaults=True, unsafe=False, quiet=True)
        return Service(destination, answers.get("env_prefix", answers["service_name"].upper()))

    return render


@pytest.fixture
def service(render: Render, database: URL) -> Service:
    """A service with the default answers, configured for an empty database."""
    service = render()
    service.configure(database)
    return service
