"""Any Alembic project: a few changed lines in its env.py, and its upgrades are safe."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import URL

from support import NewRole, bare_environment, fetch, tables

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
RUN = 'run_env(target_metadata=target_metadata, database_url=config.get_main_option("sqlalchemy.url"))\n'


@dataclass
class Project:
    """A project that `alembic init` has made.

    Attributes:
        folder: where it is.
    """

    folder: Path

    def succeed(self, *command: str, status: int = 0) -> str:
        """Run a command that ends with a status and without a traceback; returns what it prints."""
        environment = bare_environment(PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin")
        process = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
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

    def add_revisions(self, versions: Path | None = None) -> None:
        """Write two revisions by the project's own script.py.mako."""
        for message, body, table in (("first", FIRST, "author"), ("second", SECOND, "book")):
            self.succeed("alembic", "revision", "-m", message, "--rev-id", message)
            (file,) = (versions or self.folder / "migrations" / "versions").glob(f"{message}*.py")
            text = file.read_text().replace("    pass\n", body, 1)
            file.write_text(text.replace("    pass\n", f'    op.drop_table("{table}")\n', 1))


@pytest.fixture
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    """A project of the template that the test names, whose models are in several modules."""
    project = Project(tmp_path / "project")
    project.folder.mkdir()
    project.succeed("alembic", "init", "-t", getattr(request, "param", "generic"), "migrations")
    for name, text in MODELS.items():
        (project.folder / name).parent.mkdir(exist_ok=True)
        (project.folder / name).write_text(text)
    project.use_library()
    return project


@pytest.mark.parametrize(
    ("project", "driver", "starters"),
    [
        ("async", "postgresql+asyncpg", 16),
        ("generic", "postgresql+psycopg2", 4),
        ("pyproject", "postgresql+psycopg", 4),
        ("generic", "postgresql", 4),
    ],
    indirect=["project"],
)
def test_many_starters(project: Project, driver: str, starters: int, database: URL) -> None:
    project.configure(database, driver)
    project.add_revisions()
    processes = [
        subprocess.Popen(
            [Path(sys.executable).with_name("alembic"), "upgrade", "head"],
            cwd=project.folder,
            env=bare_environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(starters)
    ]
    printed = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * starters, printed
    assert sum("Running upgrade first -> second" in each for each in printed) == 1
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
    assert "at head" in project.succeed("safe-migrations", "-c", "alembic.ini", "state")
    assert "[safe_migrations]" in project.succeed("safe-migrations", "state", "--quick", status=1)
    project.succeed("safe-migrations", "rehearse")
    project.succeed("safe-migrations", "locks")
    project.succeed("safe-migrations", "lint", "first:second", status=1)
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
    refusal = project.succeed("alembic", "upgrade", "head", status=1)
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


@pytest.mark.parametrize("password", ["per%cent", "at@co:lon/slash#hash?", "a space + 'quote'"])
def test_any_password(project: Project, database: URL, new_role: NewRole, password: str) -> None:
    role = new_role("LOGIN SUPERUSER", password)
    project.configure(database.set(username=role, password=password), "postgresql+psycopg")
    project.add_revisions()
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
    printed = project.succeed("alembic", "upgrade", "head", status=1)
    assert named in printed
    assert "s3cret" not in printed


def test_tls_that_the_server_does_not_offer(project: Project, database: URL) -> None:
    project.configure(database.set(query={"sslmode": "require"}), "postgresql+psycopg")
    assert "TLS" in project.succeed("alembic", "upgrade", "head", status=1)
