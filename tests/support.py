"""A rendered service, driven as its user would drive it."""

import ast
import configparser
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml
from sqlalchemy import URL, Row, text

from safe_migrations.connection import connected, run_async

ROOT = Path(__file__).parent.parent
TEMPLATE = ROOT / "template"

ENV_PREFIX = "TEST"  # of errors raised by safe_migrations when the tests themselves call it


def bare_environment(**variables: str) -> dict[str, str]:
    """The variables that a command needs, and none of a service's settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | variables


def bare_python(folder: Path) -> Path:
    """The Python of a new environment, with the libraries of this one but none of its programs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
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
    """

    folder: Path
    env_prefix: str
    environment: dict[str, str] = field(default_factory=dict)

    def configure(self, url: URL) -> None:
        """Point the service to a database."""
        self.environment[f"{self.env_prefix}_DATABASE_URL"] = as_text(url)

    def run(
        self, *command: str, folder: Path | None = None, path: str | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the service's folder, with the programs of this test environment or of another path."""
        ours = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = bare_environment(**self.environment) | {"PATH": path or ours}
        return subprocess.run(
            command, cwd=folder or self.folder, env=environment, capture_output=True, text=True, **options
        )

    def succeed(self, *command: str, **options: Any) -> str:
        """Run a command that must end with 0, and return what it prints on standard output."""
        process = self.run(*command, **options)
        assert process.returncode == 0, f"{command} ended with {process.returncode}:\n{process.stdout}{process.stderr}"
        return process.stdout

    def fail(self, *command: str, **options: Any) -> str:
        """Run a command that must end with 1 and one sentence for a person, besides logs; return that."""
        process = self.run(*command, **options)
        assert process.returncode == 1, f"{command} ended with {process.returncode}:\n{process.stdout}{process.stderr}"
        assert "Traceback" not in process.stdout + process.stderr
        said = [line for line in process.stderr.splitlines() if not line.startswith("INFO ")]
        assert len(said) == 1, process.stderr
        return said[0]

    def revisions(self) -> list[str]:
        """The names of the revision files, in order."""
        return sorted(path.name for path in (self.folder / "alembic" / "versions").glob("*.py"))


class Render(Protocol):
    """Render a service with these answers, and the defaults for the others."""

    def __call__(self, folder: Path | None = None, /, **answers: Any) -> Service: ...


NewDatabase = Callable[[], URL]
NewRole = Callable[[str, str], str]


def fetch(url: URL, statement: str, /, **parameters: Any) -> Sequence[Row[Any]]:
    """The rows of a statement, on a new connection, which sees only what was committed."""

    async def run() -> Sequence[Row[Any]]:
        async with connected(url, ENV_PREFIX, isolation_level="AUTOCOMMIT") as connection:
            result = await connection.execute(text(statement), parameters)
            return result.all() if result.returns_rows else []

    return run_async(run())


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
