"""`safe-migrations init`: an existing Alembic project uses the library, and its history goes on as it is."""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import URL

from releases import commit, git
from safe_migrations.adopt.env_text import with_run_env
from safe_migrations.adopt.environment import read_environment
from safe_migrations.adopt.existing import Change, plan, write
from safe_migrations.errors import NotConfirmedError
from support import bare_environment, fetch, tables
from warm_python import WarmProcess, run

MODELS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
"""
REVISION = '''"""{revision}"""

from alembic import op
import sqlalchemy as sa

revision = "{revision}"
down_revision = {after!r}
branch_labels = None
depends_on = None


def upgrade():
    op.create_table("{table}", sa.Column("id", sa.Integer(), primary_key=True){columns})


def downgrade():
    op.drop_table("{table}")
'''
FULL_STACK = """
from logging.config import fileConfig

from alembic import context
from sqlalchemy import engine_from_config, pool

config = context.config
fileConfig(config.config_file_name)

from app.core.config import settings  # noqa
from app.models import Base  # noqa

target_metadata = Base.metadata


def get_url():
    return str(settings.DATABASE_URI)


def run_migrations_offline():
    url = get_url()
    context.configure(url=url, target_metadata=target_metadata, literal_binds=True, version_table="history")

    with context.begin_transaction():
        context.run_migrations()


def run_migrations_online():
    configuration = config.get_section(config.config_ini_section)
    configuration["sqlalchemy.url"] = get_url()
    connectable = engine_from_config(
        configuration,
        prefix="sqlalchemy.",
        poolclass=pool.NullPool,
    )

    with connectable.connect() as connection:
        context.configure(
            connection=connection, target_metadata=target_metadata, compare_type=True, version_table="history"
        )

        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    run_migrations_offline()
else:
    run_migrations_online()
"""
SETTINGS = """
class Settings:
    DATABASE_URI = {url!r}


settings = Settings()
"""


@dataclass
class Project:
    """A project of `alembic init`, with two revisions.

    Attributes:
        folder: where it is.
        scripts: the folder of `env.py`.
    """

    folder: Path
    scripts: Path

    def run(self, *command: str, status: int = 0) -> str:
        """Run a command that ends with a status and without a traceback; returns what it prints."""
        process = run(command, self.folder, self.environment)
        printed = process.stdout + process.stderr
        assert (process.returncode, "Traceback" in printed) == (status, False), f"{command}: {printed}"
        return printed

    @property
    def environment(self) -> dict[str, str]:
        """The variables of its commands."""
        return bare_environment(PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin")

    def files(self) -> dict[str, str]:
        """The files, but for git's and Python's."""
        paths = (path for path in self.folder.rglob("*") if path.is_file())
        names = {os.path.relpath(path, self.folder): path for path in paths}
        return {name: path.read_text() for name, path in names.items() if not re.search("__pycache__|^.git/", name)}

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a part of a file."""
        path = self.folder / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def plan(self, passed: Mapping[str, str] = {}, dropped: tuple[int, ...] = ()) -> list[Change]:
        """What the command would change."""
        files = [self.folder / name for name in ("alembic.ini", "pyproject.toml") if (self.folder / name).exists()]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.syspath_prepend(self.folder)
            return plan(Config(*files), passed, dropped)


def make(folder: Path, template: str, url: str = "postgresql://localhost/shop") -> Project:
    """A project of a template of `alembic init`, or of the full-stack kind: `app/alembic`, models in a package."""
    full_stack = template == "full-stack"
    package, scripts = ("app", "app/alembic") if full_stack else (f"shop_{template}", "migrations")
    (folder / package).mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = Config("alembic.ini", "pyproject.toml", stdout=open(os.devnull, "w"))
        command.init(config, scripts, template="generic" if full_stack else template)
    project = Project(folder, folder / scripts)
    (folder / package / "__init__.py").write_text("")
    (folder / package / "models.py").write_text(MODELS)
    if full_stack:
        (folder / "app" / "core").mkdir()
        (folder / "app" / "core" / "config.py").write_text(SETTINGS.format(url=url))
        (project.scripts / "env.py").write_text(FULL_STACK)
    else:
        imported = f"from {package}.models import Base\n\ntarget_metadata = Base.metadata"
        project.edit("migrations/env.py", "target_metadata = None", imported)
        project.edit("alembic.ini", "driver://user:pass@localhost/dbname", url.replace("%", "%%"))
    name = ', sa.Column("name", sa.String(), nullable=False)'
    for revision, after, table, columns in (("1a", None, "author", name), ("2b", "1a", "book", "")):
        text = REVISION.format(revision=revision, after=after, table=table, columns=columns)
        (project.scripts / "versions" / f"{revision}_{table}.py").write_text(text)
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / ".gitignore").write_text("__pycache__\n")
    commit(folder)
    return project


@pytest.mark.parametrize("template", ["async", "generic", "full-stack"])
def test_a_history_goes_on(template: str, tmp_path: Path, database: URL, thorough: bool) -> None:
    """A database that stock Alembic has migrated half-way, which sixteen processes then upgrade."""
    driver = "postgresql+asyncpg" if template == "async" else "postgresql+psycopg"
    project = make(tmp_path, template, database.set(drivername=driver).render_as_string(hide_password=False))
    for statement in project.run("alembic", "upgrade", "1a", "--sql").rpartition("COMMIT;")[0].split(";"):
        fetch(database, statement)
    before = project.files()
    project.run("safe-migrations", "init", "--yes")
    after = project.files()
    scripts = os.path.relpath(project.scripts, tmp_path)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"alembic.ini", *(f"{scripts}/{name}" for name in ("env.py", "script.py.mako", "versions/HEAD"))}
    assert project.run("safe-migrations", "init") == project.run("safe-migrations", "init", "--yes")
    assert "behind" in project.run("safe-migrations", "state", status=4)
    commit(tmp_path)
    assert "2b" in project.run("safe-migrations", "rehearse")
    assert tables(database) == {"author", "history" if template == "full-stack" else "alembic_version"}
    starters = 16 if thorough or template == "async" else 2
    upgrade = ("alembic", "upgrade", "head")
    processes = [WarmProcess(upgrade, tmp_path, project.environment) for _ in range(starters)]
    printed = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * starters, printed
    assert sum("Running upgrade 1a -> 2b" in each for each in printed) == 1
    assert "at head" in project.run("safe-migrations", "state")


def test_only_new_revisions_are_checked(tmp_path: Path) -> None:
    """The old ones drop a table and declare nothing, and are not to be edited."""
    project = make(tmp_path, "generic")
    project.run("safe-migrations", "init", "--yes")
    commit(tmp_path)
    git(tmp_path, "switch", "--quiet", "--create", "feature")
    assert project.run("safe-migrations", "lint")
    project.run("alembic", "revision", "-m", "third", "--rev-id", "3c")
    (new,) = project.scripts.glob("versions/3c*.py")
    assert '\nphase = "expand"' in new.read_text()
    assert (project.scripts / "versions" / "HEAD").read_text() == "3c\n"
    new.write_text(new.read_text().replace("    pass\n", '    op.drop_table("author")\n', 1))
    found = project.run("safe-migrations", "lint", status=1)
    assert new.name in found
    assert "author.py" not in found
    old = project.scripts / "versions" / "1a_author.py"
    old.write_text(old.read_text().replace("Integer", "BigInteger"))
    assert "edited-revision" in project.run("safe-migrations", "lint", status=1)


def test_it_asks(tmp_path: Path) -> None:
    project = make(tmp_path, "async")
    before = project.files()
    shown = project.run("safe-migrations", "init", status=NotConfirmedError.exit_status)
    assert {"+run_env(", "-    asyncio.run(run_async_migrations())", "+[safe_migrations]"} <= {
        line.partition("target")[0] for line in shown.splitlines()
    }
    assert project.files() == before


@pytest.mark.parametrize("template", ["pyproject", "pyproject_async"])
def test_settings_in_pyproject(template: str, tmp_path: Path) -> None:
    project = make(tmp_path, template)
    write(project.plan())
    assert (project.scripts / "versions" / "HEAD").read_text() == "2b\n"
    project.run("alembic", "revision", "-m", "third", "--rev-id", "3c")
    assert (project.scripts / "versions" / "HEAD").read_text() == "3c\n"
    assert project.plan() == []


def test_hooks_of_the_project_remain(tmp_path: Path) -> None:
    project = make(tmp_path, "generic")
    own = "hooks = own\nown.type = exec\nown.executable = touch\nown.options = REVISION_SCRIPT_FILENAME.touched\n"
    project.edit("alembic.ini", "[post_write_hooks]\n", f"[post_write_hooks]\n{own}")
    project.edit("alembic.ini", "# revision_environment = false", "revision_environment = false  # as by default")
    write(project.plan())
    project.run("alembic", "revision", "-m", "third", "--rev-id", "3c")
    assert (project.scripts / "versions" / "HEAD").read_text() == "3c\n"
    assert list(project.scripts.glob("versions/3c*.touched"))


def call(text: str, folder: Path) -> tuple[str, list[int]]:
    """The call of run_env for an `env.py`, and the lines that were not read."""
    path = folder / "env.py"
    path.write_text(dedent(text))
    environment = read_environment(path)
    urls = {"database_url": url for url in environment.urls}
    assert len(environment.urls) < 2
    text = with_run_env(environment, environment.options | urls)
    return text[text.index("run_env(") :], [unread.line for unread in environment.unread]
