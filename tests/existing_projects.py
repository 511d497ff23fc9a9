"""Projects as `alembic init` and a full-stack template make them, with two revisions."""

import io
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from releases import commit, git
from safe_migrations.adopt.existing import Change, plan
from support import bare_environment
from warm_python import run

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
        toml = self.folder / "pyproject.toml"
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.syspath_prepend(self.folder)
            return plan(Config(self.folder / "alembic.ini", toml if toml.exists() else None), passed, dropped)


def make(folder: Path, template: str, url: str = "postgresql://localhost/shop") -> Project:
    """A project of a template of `alembic init`, or of the full-stack kind: `app/alembic`, models in a package."""
    full_stack = template == "full-stack"
    package, scripts = ("app", "app/alembic") if full_stack else (f"shop_{template}", "migrations")
    (folder / package).mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = Config("alembic.ini", "pyproject.toml", stdout=io.StringIO())
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
        project.edit(
            "migrations/env.py", "target_metadata = {}" if template == "multidb" else "target_metadata = None", imported
        )
        ini = folder / "alembic.ini"
        ini.write_text(ini.read_text().replace("driver://user:pass@localhost/dbname", url.replace("%", "%%")))
    name = ', sa.Column("name", sa.String(), nullable=False)'
    for revision, after, table, columns in (("1a", None, "author", name), ("2b", "1a", "book", "")):
        text = REVISION.format(revision=revision, after=after, table=table, columns=columns)
        (project.scripts / "versions" / f"{revision}_{table}.py").write_text(text)
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / ".gitignore").write_text("__pycache__\n")
    commit(folder)
    return project
