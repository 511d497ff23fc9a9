"""A rendered service, driven as its user would drive it."""

import ast
import configparser
import fcntl
import os
import re
import subprocess
import sysconfig
import tomllib
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import dedent, indent
from typing import Any, Protocol

import alembic
import asyncpg  # type: ignore[import-untyped]
import yaml
from sqlalchemy import URL, Row, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from faster_git import VARIABLES
from safe_migrations.errors import MigrationError
from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.postgres.database import Database
from safe_migrations.service import Service as ServiceSettings
from warm_python import WarmProcess, can_fork, run

ROOT = Path(__file__).parent.parent
TEMPLATE = ROOT / "template"

# Of errors raised by the library when the tests themselves call it.
SETTINGS = ServiceSettings(
    ROOT / "alembic.ini", "test", env_prefix="TEST", platform_prefix="TEST", database_name="test"
)


# Of frameworks, which a service does not have: pytest would import them in each run of a service's own tests.
NO_PLUGINS = "-p no:anyio -p no:faker"

# A revision file by hand, as script.py.mako has it.
REVISION = '''"""A revision of a test."""

import sqlalchemy as sa
from safe_migrations.operations import op

revision: str = "{revision}"
down_revision: str = "{down_revision}"
branch_labels = None
depends_on = None
{declarations}

def upgrade() -> None:
{upgrade}


def downgrade() -> None:
{downgrade}
'''

# To head, and back, and to head again, in one process.
UP_DOWN_UP = """
from alembic import command
from alembic.config import Config

alembic = Config("alembic.ini")
command.upgrade(alembic, "head")
command.check(alembic)
command.downgrade(alembic, "base")
command.upgrade(alembic, "head")  # which would fail if a table were left
"""


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one worker at a time use a path that all workers share."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def bare_environment(**variables: str) -> dict[str, str]:
    """The variables that a command needs, and none of a service's settings."""
    names = ("PATH", "HOME", "LANG", "TMPDIR", "PGSSLMODE", *VARIABLES)
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {"PYTEST_ADDOPTS": NO_PLUGINS, **kept, **variables}


def bare_python(folder: Path) -> Path:
    """The Python of a new environment, with the libraries of this one but none of its programs."""
    venv.create(folder, symlinks=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    (packages / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT / 'src'}\n")
    return folder / "bin" / "python"


def as_text(url: URL) -> str:
    """A URL with its password, as it stands in an environment variable."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@dataclass
class Service:
    """A rendering.

    Attributes:
        folder: where it is.
        env_prefix: its answer, the prefix of its environment variables.
        environment: variables that its commands get besides the bare ones.
        stdin: the standard input of the commands that are started.
    """

    folder: Path
    env_prefix: str
    environment: dict[str, str] = field(default_factory=dict)
    stdin: int = subprocess.DEVNULL

    def configure(self, url: URL) -> None:
        """Point the service to a database."""
        self.environment[f"{self.env_prefix}_DATABASE_URL"] = as_text(url)

    def run(
        self, *command: str, folder: Path | None = None, path: str | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the service's folder, with the programs of this test environment or of another path."""
        folder, environment = folder or self.folder, self._variables(path)
        if options:
            return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, **options)
        return run(command, folder, environment)

    def _variables(self, path: str | None = None) -> dict[str, str]:
        ours = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
        return bare_environment(**self.environment) | {"PATH": path or ours}

    def succeed(self, *command: str, **options: Any) -> str:
        """Run a command that must end with 0, and return what it prints on standard output."""
        process = self.run(*command, **options)
        assert process.returncode == 0, f"{command} ended with {process.returncode}:\n{process.stdout}{process.stderr}"
        return process.stdout

    def fail(self, *command: str, kind: type[MigrationError] | None = None, **options: Any) -> str:
        """Run a command that must end with an error of this kind, or of any, and return its message without logs."""
        process = self.run(*command, **options)
        kinds: list[type[MigrationError]] = [kind] if kind else [MigrationError, *MigrationError.__subclasses__()]
        ended = f"{command} ended with {process.returncode}:\n{process.stdout}{process.stderr}"
        assert process.returncode in {kind.exit_status for kind in kinds}, ended
        assert "Traceback" not in process.stdout + process.stderr
        lines = [line for line in process.stderr.splitlines() if not line.startswith(("INFO ", "WARNI"))]
        assert lines, ended
        return "\n".join(lines)

    def start(self, *command: str, **variables: str) -> "Process":
        """Start a command in the service's folder, in a session of its own, and go on; its output is kept in pipes."""
        environment = self._variables() | variables
        if can_fork(command, self.folder, environment):
            return WarmProcess(command, self.folder, environment, stdin=self.stdin, session=True)
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdin=self.stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def add_revision(self, slug: str, upgrade: str, downgrade: str = "pass", declarations: str = "") -> str:
        """Write the next revision file, with these bodies and declarations, and return its id."""
        files = self.revisions()
        last = re.search(r'^revision: str = "(\w+)"', self.versions.joinpath(files[-1]).read_text(), re.MULTILINE)
        assert last is not None
        revision = f"{len(files) + 1:04d}_{slug}"[:32]
        self.versions.joinpath(f"20300101_{len(files) + 1:04d}_{slug}.py").write_text(
            REVISION.format(
                revision=revision,
                down_revision=last[1],
                upgrade=indent(dedent(upgrade).strip(), "    "),
                downgrade=indent(dedent(downgrade).strip(), "    "),
                declarations=declarations and f"\n{declarations}\n",
            )
        )
        return revision

    def use_stock_environment(self) -> None:
        """Replace env.py by the one of `alembic init -t async`, which reads this service's settings."""
        stock = Path(alembic.__file__).parent.joinpath("templates", "async", "env.py").read_text()
        settings = """
        from config import load_settings
        from models_db import Base
        target_metadata = Base.metadata
        url = load_settings().migration_database_url.render_as_string(hide_password=False)
        config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
        """
        assert "target_metadata = None" in stock
        self.folder.joinpath("alembic", "env.py").write_text(stock.replace("target_metadata = None", dedent(settings)))

    @property
    def versions(self) -> Path:
        """The folder of the revision files."""
        return self.folder / "alembic" / "versions"

    def revisions(self) -> list[str]:
        """The names of the revision files, in order."""
        return sorted(path.name for path in self.versions.glob("*.py"))


class Administrator:
    """Creates and drops databases, as often as tests need it: on one connection, and by a copy of files."""

    def __init__(self, execute: Callable[[str], Any]) -> None:
        self._execute = execute

    def create(self, name: str, template: str = "template1") -> None:
        """Create a database as a copy of another one."""
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")

    def drop(self, name: str) -> None:
        """Drop a database, also one in use."""
        self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


class Render(Protocol):
    """Render a service with these answers, and the defaults for the others."""

    def __call__(self, folder: Path | None = None, /, **answers: Any) -> Service: ...


Process = subprocess.Popen[str] | WarmProcess
NewDatabase = Callable[[], URL]
NewRole = Callable[[str, str], str]
ToHead = Callable[[], None]
MypyCache = Callable[[], AbstractContextManager[str]]
Once = Callable[[str, Callable[[], Any]], Any]


def at(url: URL) -> Database:
    """A database, as the library's own functions take it."""
    return Database(url, replace(SETTINGS))  # which reads the environment anew


_url: ContextVar[URL] = ContextVar("the database that the engine connects to")
# One for all databases: what SQLAlchemy prepares for an engine takes longer than a connection.
_engine = create_async_engine(
    "postgresql+asyncpg://",
    async_creator=lambda: asyncpg.connect(as_text(_url.get())),
    isolation_level="AUTOCOMMIT",
    poolclass=NullPool,
)


def on(url: URL, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function with a new connection, which has these options of `connected`."""

    async def call() -> Any:
        async with connected(at(url), **options) as connection:
            return await connection.run_sync(function, *arguments)

    return run_async(call())


def fetch(url: URL, statement: str, /, **parameters: Any) -> Sequence[Row[Any]]:
    """The rows of a statement, on a new connection, which sees only what was committed."""

    async def run() -> Sequence[Row[Any]]:
        _url.set(url)
        async with _engine.connect() as connection:
            result = await connection.execute(text(statement), parameters)
            return result.all() if result.returns_rows else []

    return run_async(run())


def execute_all(url: URL, statements: str) -> None:
    """Run a text of several statements, in one transaction."""

    async def run() -> None:
        connection = await asyncpg.connect(as_text(url))
        await connection.execute(statements)
        await connection.close()

    run_async(run())


def tables(url: URL) -> set[str]:
    """The tables of a database."""
    return {row.tablename for row in fetch(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def check_file(path: Path) -> None:
    """Fail unless a rendered file parses, is tidy, and has no Jinja left."""
    text = path.read_text()
    assert not re.search(r"\{%|\{#|(?<!\$)\{\{", text.replace("${{", "")), f"Jinja is left in {path}"
    assert text.endswith("\n"), path
    assert not text.endswith("\n\n"), path
    assert not re.search(r"[ \t]$", text, re.MULTILINE), f"{path} has trailing spaces"
    match path.suffix:
        case ".py":
            ast.parse(text)
        case ".toml":
            tomllib.loads(text)
        case ".ini":
            configparser.ConfigParser().read_string(text)
        case ".yaml" | ".yml":
            yaml.safe_load(text)
