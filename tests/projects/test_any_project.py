"""Any Alembic project: a few changed lines in its env.py, and its upgrades are safe."""

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import URL

from safe_migrations.errors import BackfillError, ConfigurationError, ConnectionFailedError, NotConfirmedError
from safe_migrations.revisions import EXIT_STATUS, UNKNOWN_REVISION
from support import NewRole, alone, as_text, bare_environment, fetch, tables
from warm_python import WarmProcess, run

MODELS = {
    "models/base.py": "from sqlalchemy.orm import DeclarativeBase\n\n\nclass Base(DeclarativeBase):\n    pass\n",
    "models/author.py": """
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
""",
    "models/book.py": """
from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id", name="fk_book_author"))
""",
    "models/__init__.py": "from models import author, book\nfrom models.base import Base\n",
}
FIRST = """
    op.create_table(
        "author", sa.Column("id", sa.Integer(), primary_key=True), sa.Column("name", sa.String(), nullable=False)
    )
    op.execute("SELECT pg_sleep(0.5)")
"""
SECOND = """
    op.create_table(
        "book",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("author_id", sa.Integer(), sa.ForeignKey("author.id", name="fk_book_author"), nullable=False),
    )
"""
OTHER_METADATA = """
import sqlalchemy as sa

other = sa.MetaData()
sa.Table("event", other, sa.Column("id", sa.Integer(), primary_key=True), sa.Column("at", sa.DateTime(), index=True))
"""
INJECT = """
import asyncio
from contextlib import nullcontext

from alembic import command
from alembic.config import Config
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine


def upgrade(connection):
    config = Config("alembic.ini")
    config.attributes["connection"] = connection
    with {transaction}:
        command.upgrade(config, "head")
        command.check(config)


async def main():
    engine = create_async_engine(make_url("{url}").set(drivername="postgresql+asyncpg"))
    async with engine.connect() as connection:
        await connection.run_sync(upgrade)
    await engine.dispose()


asyncio.run(main())
"""
RUN = 'run_env(target_metadata=target_metadata, database_url=config.get_main_option("sqlalchemy.url"))\n'


@dataclass
class Project:
    """A project that `alembic init` has made.

    Attributes:
        folder: where it is.
    """

    folder: Path

    def succeed(self, *command: str, status: int = 0, folder: Path | None = None, **variables: str) -> str:
        """Run a command that ends with a status and without a traceback; returns what it prints."""
        environment = bare_environment(PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin", **variables)
        process = run(command, folder or self.folder, environment)
        printed = process.stdout + process.stderr
        assert (process.returncode, "Traceback" in printed) == (status, False), f"{command}: {printed}"
        return printed

    def configure(self, url: URL | str, driver: str) -> None:
        """Write the URL into the project's alembic.ini, as its owner would."""
        text = url if isinstance(url, str) else url.set(drivername=driver).render_as_string(hide_password=False)
        ini = self.folder / "alembic.ini"
        line = f"sqlalchemy.url = {text.replace('%', '%%')}"
        ini.write_text(re.sub("^sqlalchemy.url = .*$", lambda _: line, ini.read_text(), flags=re.MULTILINE))

    def use_library(self) -> None:
        """Change the lines of env.py that the how-to names."""
        env = self.folder / "migrations" / "env.py"
        text = env.read_text()
        kept, _, _ = text.partition("def run_migrations_offline")
        kept = kept.replace("target_metadata = None", "from models import Base\ntarget_metadata = Base.metadata")
        env.write_text(f"{kept}from safe_migrations import run_env\n\n{RUN}")

    def use_another_metadata(self) -> Path:
        """Let `target_metadata` be a list; returns the file of the new model."""
        env = self.folder / "migrations" / "env.py"
        text = env.read_text().replace("= Base.metadata", "= [Base.metadata, models.other]")
        env.write_text(text.replace("from models", "import models\nfrom models"))
        models = self.folder / "models" / "__init__.py"
        models.write_text(models.read_text() + OTHER_METADATA)
        return models

    def make(self, template: str) -> None:
        """Make the project, with models in several modules, and two revisions by its own script.py.mako beside it."""
        self.folder.mkdir()
        self.succeed("alembic", "init", "-t", template, "migrations")
        for name, text in MODELS.items():
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_text(text)
        self.use_library()
        for message, body, table in (("first", FIRST, "author"), ("second", SECOND, "book")):
            self.succeed("alembic", "revision", "-m", message, "--rev-id", message)
            (file,) = (self.folder / "migrations" / "versions").glob(f"{message}*.py")
            text = file.read_text().replace("    pass\n", body, 1)
            file.write_text(text.replace("    pass\n", f'    op.drop_table("{table}")\n', 1))
        for file in (self.folder / "migrations" / "versions").glob("*.py"):
            file.rename(self.folder / file.name)

    def add_revisions(self) -> None:
        """Let it have the two revisions."""
        for file in [*self.folder.glob("first*.py"), *self.folder.glob("second*.py")]:
            file.rename(self.folder / "migrations" / "versions" / file.name)


@pytest.fixture
def project(request: pytest.FixtureRequest, folder_of_run: Path, tmp_path: Path) -> Project:
    """A project of the template that the test names."""
    template = getattr(request, "param", "generic")
    made = Project(folder_of_run / f"project_of_{template}")
    with alone(made.folder):
        if not made.folder.exists():
            made.make(template)
    return Project(shutil.copytree(made.folder, tmp_path / "project"))


@pytest.mark.parametrize(
    ("project", "driver", "starters"),
    [
        ("async", "postgresql+asyncpg", 4),
        ("generic", "postgresql+psycopg2", 2),
        ("pyproject", "postgresql+psycopg", 2),
        ("generic", "postgresql", 2),
    ],
    indirect=["project"],
)
def test_many_starters(project: Project, driver: str, starters: int, database: URL, thorough: bool) -> None:
    starters = 16 if thorough else starters
    project.configure(database, driver)
    project.add_revisions()
    command = ("alembic", "upgrade", "head")
    processes = [WarmProcess(command, project.folder, bare_environment()) for _ in range(starters)]
    printed = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * starters, printed
    assert sum("Running upgrade first -> second" in output for output in printed) == 1
    assert tables(database) == {"alembic_version", "author", "book"}


def test_every_command_of_alembic(project: Project, database: URL) -> None:
    project.configure(database, "postgresql+psycopg")
    project.add_revisions()
    assert "CREATE TABLE book" in project.succeed("alembic", "upgrade", "head", "--sql")
    project.succeed("alembic", "upgrade", "+1")
    project.succeed("alembic", "upgrade", "head")
    assert "second (head)" in project.succeed("alembic", "current")
    assert "first" in project.succeed("alembic", "history", "--verbose")
    project.succeed("alembic", "check")
    project.succeed("alembic", "downgrade", "base")
    assert tables(database) == {"alembic_version"}


def test_commands_of_the_library(project: Project, database: URL) -> None:
    project.configure(database, "postgresql+psycopg2")
    project.add_revisions()
    assert "fresh" in project.succeed("safe-migrations", "state", status=3)
    project.succeed("safe-migrations", "deploy", "--without-backup")
    state = project.succeed("safe-migrations", "-c", "alembic.ini", "state")
    assert "at head" in state
    assert "plugin" not in state, "in a stock alembic.ini, Alembic's loggers tell all that they do"
    assert "[safe_migrations]" in project.succeed(
        "safe-migrations", "state", "--quick", status=ConfigurationError.exit_status
    )
    project.succeed("safe-migrations", "rehearse")
    project.succeed("safe-migrations", "locks")
    project.succeed("safe-migrations", "lint", "first:second")
    project.succeed("safe-migrations", "backup", "dump")
    name = project.succeed("safe-migrations", "restore", "dump").splitlines()[0]
    try:
        assert tables(database.set(database=name)) == {"alembic_version", "author", "book"}
    finally:
        fetch(database, f'DROP DATABASE "{name}"')


def test_autogenerate_declares_phase_and_danger_in_a_stock_file(project: Project, database: URL) -> None:
    """Alembic's script.py.mako has no place for them."""
    project.configure(database, "postgresql")
    project.add_revisions()
    project.succeed("alembic", "upgrade", "head")
    author = project.folder / "models" / "author.py"
    author.write_text(author.read_text().replace("    name: Mapped[str]\n", ""))
    project.succeed("alembic", "revision", "--autogenerate", "-m", "drop the name")
    texts = {file: file.read_text() for file in (project.folder / "migrations" / "versions").glob("*drop_the_name*.py")}
    (file,) = (file for file, text in texts.items() if '\nphase = "contract"' in text)
    text = texts.pop(file)
    assert all('\nphase = "expand"' in text for text in texts.values()), "what the old code can live with comes before"
    refusal = project.succeed("alembic", "upgrade", "head", status=NotConfirmedError.exit_status)
    assert f"{file.name}:" in refusal, "nobody has acknowledged that the column's values are lost"
    file.write_text(text.replace("# acknowledged = ", "acknowledged = "))
    project.succeed("alembic", "upgrade", "head")
    project.succeed("alembic", "check")


def test_another_version_table(project: Project, database: URL) -> None:
    fetch(database, "CREATE SCHEMA audit")
    env = project.folder / "migrations" / "env.py"
    passed = 'version_table="revision", version_table_schema="audit")\n'
    env.write_text(env.read_text().rstrip().removesuffix(")") + f", {passed}")
    project.configure(database, "postgresql")
    project.add_revisions()
    project.succeed("alembic", "upgrade", "head")
    assert fetch(database, "SELECT version_num FROM audit.revision") == [("second",)]
    assert "at head" in project.succeed("safe-migrations", "state")
    project.succeed("alembic", "downgrade", "base")


def test_revisions_in_several_folders(project: Project, database: URL) -> None:
    ini = project.folder / "alembic.ini"
    shutil.move(project.folder / "migrations" / "versions", project.folder / "old")
    (project.folder / "new").mkdir()
    locations = "version_locations = %(here)s/old:%(here)s/new\npath_separator = :"
    ini.write_text(re.sub("^path_separator = os$", locations, ini.read_text(), flags=re.MULTILINE))
    project.configure(database, "postgresql")
    for message, body, folder in (("first", FIRST, "old"), ("second", SECOND, "new")):
        path = str(project.folder / folder)
        project.succeed("alembic", "revision", "-m", message, "--rev-id", message, "--version-path", path)
        (file,) = Path(path).glob(f"{message}*.py")
        file.write_text(file.read_text().replace("    pass\n", body, 1))
    project.succeed("alembic", "upgrade", "head")
    assert tables(database) == {"alembic_version", "author", "book"}
    assert "at head" in project.succeed("safe-migrations", "state")
    assert "HEAD" not in project.succeed("safe-migrations", "lint", status=1), "nothing keeps that file here"
    path = str(project.folder / "old")
    for message, parent in (("third", "second"), ("fourth", "second")):
        options = ("--rev-id", message, "--head", parent, "--splice", "--version-path", path)
        project.succeed("alembic", "revision", "-m", message, *options)
    project.succeed("safe-migrations", "rebase", "fourth")
    assert "fourth (head)" in project.succeed("alembic", "heads")
    fetch(database, "UPDATE alembic_version SET version_num = 'gone'")
    refusal = project.succeed("safe-migrations", "state", status=EXIT_STATUS[UNKNOWN_REVISION])
    assert "git log --all --oneline -S gone -- old new" in refusal


def test_models_of_several_metadata(project: Project, database: URL) -> None:
    """`target_metadata` may be a list; a column that may not be null asks for the key of its model's table."""
    project.configure(database, "postgresql+psycopg")
    models = project.use_another_metadata()
    project.succeed("alembic", "revision", "--autogenerate", "-m", "all tables")
    project.succeed("alembic", "upgrade", "head")
    assert tables(database) == {"alembic_version", "author", "book", "event"}
    project.succeed("alembic", "check")
    models.write_text(
        models.read_text().rstrip().removesuffix(")") + ', sa.Column("kind", sa.Text(), nullable=False))\n'
    )
    assert "kind" in project.succeed("safe-migrations", "preview")
    project.succeed("alembic", "revision", "--autogenerate", "-m", "kinds")
    fetch(database, "INSERT INTO event DEFAULT VALUES")
    refusal = project.succeed("alembic", "upgrade", "head", status=BackfillError.exit_status)
    assert "event_kind" in refusal, "its row has no kind yet"
    backfill = project.folder / "migrations" / "backfills" / "event_kind.py"
    backfill.write_text(backfill.read_text().replace("values={}", 'values={"kind": "old"}'))
    project.succeed("safe-migrations", "backfill", "event_kind")
    project.succeed("alembic", "upgrade", "head")
    assert fetch(database, "SELECT kind FROM event") == [("old",)]


def test_the_librarys_suite(project: Project, database: URL, server: URL) -> None:
    """The two files of the how-to, where `target_metadata` is a list."""
    project.configure(database, "postgresql")
    models = project.use_another_metadata()
    project.succeed("alembic", "revision", "--autogenerate", "-m", "all tables")
    imported = ("test_models_equal_schema", "test_one_head", "test_stairway", "test_upgrade_persists")
    (project.folder / "tests").mkdir()
    (project.folder / "tests" / "conftest.py").write_text('pytest_plugins = ["safe_migrations.testing"]\n')
    suite = project.folder / "tests" / "test_migrations.py"
    suite.write_text(f"from safe_migrations.testing.suite import {', '.join(imported)}\n")
    command, url = ("pytest", "-q", "--tb=line"), as_text(server)
    assert f"{len(imported)} passed" in project.succeed(*command, TEST_DATABASE_URL=url)
    models.write_text(
        models.read_text() + 'sa.Table("later", other, sa.Column("id", sa.Integer(), primary_key=True))\n'
    )
    assert "2 failed" in project.succeed(
        *command, "-k", "equal_schema or upgrade_persists", status=1, TEST_DATABASE_URL=url
    )
    assert tables(database) == set(), "the tests have databases of their own"


def test_a_project_without_models(project: Project, database: URL) -> None:
    """Its revisions are all written by hand; nothing can drift from models that do not exist."""
    env = project.folder / "migrations" / "env.py"
    text = env.read_text()
    project.configure(database, "postgresql")
    project.add_revisions()
    for passed in ("target_metadata=None, ", ""):
        env.write_text(text.replace("target_metadata=target_metadata, ", passed))
        project.succeed("safe-migrations", "deploy", "--without-backup")
        assert "at head" in project.succeed("safe-migrations", "state")
        assert "MetaData" in project.succeed("alembic", "check", status=255)


def test_from_another_folder(project: Project, database: URL, tmp_path: Path) -> None:
    """With the one line of alembic.ini that the how-to names."""
    ini = project.folder / "alembic.ini"
    ini.write_text(
        re.sub("^prepend_sys_path = .*$", "prepend_sys_path = %(here)s", ini.read_text(), flags=re.MULTILINE)
    )
    project.configure(database, "postgresql+psycopg2")
    project.add_revisions()
    for command in (
        ("alembic", "-c", str(ini), "upgrade", "head"),
        ("safe-migrations", "-c", "project/alembic.ini", "state"),
        ("safe-migrations", "-c", str(ini), "locks"),
        ("safe-migrations", "-c", str(ini), "backup", "dump"),
    ):
        project.succeed(*command, folder=tmp_path)
    assert tables(database) == {"alembic_version", "author", "book"}
    assert (tmp_path / "dump").exists()


@pytest.mark.parametrize("transaction", ["connection.begin()", "nullcontext()"])
def test_a_connection_of_the_caller(project: Project, database: URL, transaction: str) -> None:
    """In a transaction of the caller's, which commits it, and without one, in a running event loop."""
    project.configure("postgresql://nobody@127.0.0.1:1/nothing", "")
    project.add_revisions()
    project.succeed("python", "-c", INJECT.format(url=as_text(database), transaction=transaction))
    assert tables(database) == {"alembic_version", "author", "book"}


def test_any_password(project: Project, database: URL, new_role: NewRole) -> None:
    project.add_revisions()
    for password in ("per%cent", "at@co:lon/slash#hash?", "a space + 'quote'"):
        role = new_role("LOGIN SUPERUSER", password)
        project.configure(database.set(username=role, password=password), "postgresql+psycopg")
        assert password not in project.succeed("alembic", "upgrade", "head")


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("mysql://user:s3cret@localhost/name", "PostgreSQL"),
        ("postgresql://user:s3cret@127.0.0.1:1/name", "127.0.0.1:1"),
        ("postgresql+psycopg2://user:s3cret@localhost/name?unknown=1", "unknown"),
        ("postgresql://user:s3cret@localhost/name?sslmode=maybe", "sslmode"),
        ("no url at all, s3cret", "URL"),
    ],
)
def test_one_sentence_for_a_url_that_can_not_be_used(project: Project, url: str, named: str) -> None:
    project.configure(url, "")
    kind = ConnectionFailedError if named == "127.0.0.1:1" else ConfigurationError
    printed = project.succeed("alembic", "upgrade", "head", status=kind.exit_status)
    assert named in printed
    assert "s3cret" not in printed


def test_tls_that_the_server_does_not_offer(project: Project, database: URL) -> None:
    project.configure(database.set(query={"sslmode": "require"}), "postgresql+psycopg")
    assert "TLS" in project.succeed("alembic", "upgrade", "head", status=ConnectionFailedError.exit_status)
