"""`safe-migrations init`: an existing Alembic project uses the library, and its history goes on as it is."""

import ast
import io
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest
from alembic import command
from alembic.config import Config
from copier import run_copy, run_update
from sqlalchemy import URL

from releases import commit, git, release
from safe_migrations.adopt.env_text import as_argument, with_run_env
from safe_migrations.adopt.environment import read_environment
from safe_migrations.adopt.existing import Change, plan, write
from safe_migrations.errors import ConfigurationError, MigrationError, NotConfirmedError
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


@pytest.mark.parametrize("kind", ["async", "generic", "full-stack"])
def test_a_history_goes_on(kind: str, tmp_path: Path, database: URL, thorough: bool) -> None:
    """A database that stock Alembic has migrated half-way, which sixteen processes then upgrade."""
    driver = "postgresql+asyncpg" if kind == "async" else "postgresql+psycopg"
    project = make(tmp_path, kind, database.set(drivername=driver).render_as_string(hide_password=False))
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
    if kind == "async":
        assert "2b" in project.run("safe-migrations", "rehearse")
    assert tables(database) == {"author", "history" if kind == "full-stack" else "alembic_version"}
    starters = 16 if thorough else 3
    upgrade = ("alembic", "upgrade", "head")
    processes = [WarmProcess(upgrade, tmp_path, project.environment) for _ in range(starters)]
    printed = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * starters, printed
    assert sum("Running upgrade 1a -> 2b" in output for output in printed) == 1
    assert "at head" in project.run("safe-migrations", "state")


def test_only_new_revisions_are_checked(tmp_path: Path) -> None:
    """The old ones declare no phase, and from now on are not to be edited; what was edited before does not count."""
    project = make(tmp_path, "generic")
    git(tmp_path, "tag", "1.0")
    project.edit("migrations/versions/1a_author.py", "sa.String()", "sa.Text()")
    commit(tmp_path)
    project.run("safe-migrations", "init", "--yes")
    commit(tmp_path)
    git(tmp_path, "switch", "--quiet", "--create", "feature")
    assert project.run("safe-migrations", "lint")
    project.run("alembic", "revision", "-m", "third", "--rev-id", "3c")
    (new,) = project.scripts.glob("versions/3c*.py")
    assert '\nphase = "expand"' in new.read_text()
    assert (project.scripts / "versions" / "HEAD").read_text() == "3c\n"
    new.write_text(new.read_text().replace("    pass\n", '    op.drop_table("author")\n', 1))
    findings = project.run("safe-migrations", "lint", status=1)
    assert new.name in findings
    assert "author.py" not in findings
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


@pytest.mark.parametrize("kind", ["pyproject", "pyproject_async"])
def test_settings_in_pyproject(kind: str, tmp_path: Path) -> None:
    project = make(tmp_path, kind)
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


@pytest.mark.parametrize("kind", ["async", "full-stack"])
def test_the_template_over_an_existing_project(kind: str, template: Path, tmp_path: Path) -> None:
    """`copier copy` keeps every file, and brings no second `alembic` folder, no models and no config.py."""
    source, folder = tmp_path / "template", tmp_path / "shop"
    shutil.copytree(template, source)
    git(source, "init", "--quiet")
    release(source, "9.0.0")
    project = make(folder, kind)
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "shop"\n\n[tool.pytest.ini_options]\ntestpaths = ["tests"]\npythonpath = ["."]\n'
    )
    before = project.files()
    data = {"service_name": "shop", "containers": False}
    run_copy(str(source), folder, data, defaults=True, unsafe=False, quiet=True)
    after = project.files()
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {
        *(".copier-answers.yml", ".pre-commit-config.yaml"),
        *(".github/workflows/ci.yml", ".github/workflows/template-update.yml"),
        *("tests/conftest.py", "tests/test_migrations.py"),
    }
    write(project.plan())
    commit(folder)
    if kind == "full-stack":
        assert "3 passed" in project.run("pytest", "-q", "tests", "-k", "order or one_head or nothing_is_left")
        return
    used = project.files()
    for name in ("alembic.ini", "config.py", "pyproject.toml"):
        path = source / "template" / f"{name}.jinja"
        text = path.read_text()
        added = 'testpaths = ["tests"]\nxfail_strict = true'
        path.write_text(text.replace('testpaths = ["tests"]', added) if name == "pyproject.toml" else f"{text}# new\n")
    release(source, "9.1.0")
    run_update(folder, defaults=True, skip_answered=True, overwrite=True, unsafe=False, quiet=True)
    again = project.files()
    assert {name for name in again if again[name] != used.get(name)} == {".copier-answers.yml", "pyproject.toml"}
    assert again["pyproject.toml"] == used["pyproject.toml"].replace("]\npython", "]\nxfail_strict = true\npython")


@pytest.mark.parametrize("name", ["multidb", "no context", "flask", "sqlite", "broken", "unreadable", "several URLs"])
def test_what_can_not_be_done_is_named_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    project = make(tmp_path, "multidb" if name == "multidb" else "generic")
    named = "several databases" if name == "multidb" else name
    if name == "no context":
        (project.scripts / "env.py").write_text("from shop.migrating import go\n\ngo()\n")
        named = "context.configure"
    elif name == "flask":
        project.edit("migrations/env.py", "import context\n", "import context\nfrom flask import current_app\n")
        project.edit("migrations/env.py", "Base.metadata", "current_app.extensions['migrate'].db.metadata")
        named = "current_app"
    elif name == "sqlite":
        project.edit("alembic.ini", "postgresql://localhost/shop", "sqlite:///secret.db")
    elif name == "broken":
        project.edit("migrations/env.py", "import context\n", "import context\n\nopen('/missing')\n")
        named = "env.py:6: FileNotFoundError"
    elif name == "unreadable":
        project.edit(
            "migrations/env.py", "        context.configure(", "        prepare(connection)\n        context.configure("
        )
        named = "prepare(connection)"
    elif name == "several URLs":
        project.edit(
            "migrations/env.py", "    connectable = ", "    connectable = create_engine(ONE)\n    connectable = "
        )
        named = "ONE, or config.get_main_option"
    before = project.files()
    printed = project.run("safe-migrations", "init", "--yes", status=ConfigurationError.exit_status)
    assert named in printed
    assert "secret" not in printed
    assert project.files() == before


def test_the_user_says_what_env_py_does_not_show(tmp_path: Path) -> None:
    project = make(tmp_path, "generic")
    project.edit(
        "migrations/env.py", "connection=connection, ", "connection=connection, include_schemas=flag(connection), "
    )
    project.edit(
        "migrations/env.py",
        "        context.configure(\n            conn",
        "        prepare(connection)\n        context.configure(\n            conn",
    )
    with pytest.raises(ConfigurationError, match="--drop 69 --pass include_schemas=EXPRESSION"):
        project.plan()
    (env, *_) = project.plan({"include_schemas": "True", "database_url": "str(config)"}, (69,))
    assert "database_url=lambda: str(config), include_schemas=True)" in env.after


def test_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full, or a folder is gone, when all but the last file are there."""
    project = make(tmp_path, "generic")
    (tmp_path / "alembic.ini").chmod(0o640)
    before, changes, renamed = project.files(), project.plan(), os.rename

    def rename(source: Path, target: Path) -> None:
        if target.name == changes[-1].path.name and target.parent == changes[-1].path.parent:
            raise OSError(28, "No space left on device", str(target))
        renamed(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        with pytest.raises(MigrationError, match="No space left"):
            write(changes)
    assert project.files() == before
    write(changes)
    assert {change.path.read_text() for change in changes} == {change.after for change in changes}
    assert (tmp_path / "alembic.ini").stat().st_mode & 0o777 == 0o640


# env.py without its first lines, what is passed to run_env, and the parts of the lines that are not read.
ENVIRONMENTS = {
    "an engine of the application": (
        """
        from shop.database import engine, metadata

        def go():
            with engine.begin() as connection:
                context.configure(connection=connection, target_metadata=[metadata])
                context.run_migrations()

        go()
        """,
        {"target_metadata": "[metadata]", "database_url": "lambda: engine.url"},
        [],
    ),
    "branches for async, sync and SQLite": (
        """
        def online():
            connectable = config.attributes.get("connection", None)
            url = os.environ["SHOP_URL"]
            if connectable is None:
                if url.startswith("sqlite"):
                    connectable = create_engine(url, connect_args={"check_same_thread": False})
                else:
                    if "+asyncpg" not in url:
                        url = url.replace("postgresql://", "postgresql+asyncpg://")
                    connectable = create_async_engine(url, poolclass=pool.NullPool, future=True)
            if isinstance(connectable, AsyncEngine):
                asyncio.run(in_async(connectable))
            else:
                with connectable.connect() as connection:
                    do(connection)

        async def in_async(engine):
            try:
                async with engine.begin() as connection:
                    await connection.run_sync(do)
            finally:
                await engine.dispose()

        def do(connection):
            context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
            with context.begin_transaction():
                context.run_migrations()

        if context.is_offline_mode():
            raise SystemExit("not here")
        online()
        """,
        {"target_metadata": "Base.metadata", "database_url": 'lambda: os.environ["SHOP_URL"]'},
        [],
    ),
    "functions in functions, and a section with another URL": (
        """
        def online() -> None:
            from shop.settings import settings
            from shop.types import render_item

            def include_object(object_, name, type_, reflected, compare_to):
                return type_ != "table" or name != "spatial_ref_sys"

            section: dict[str, str] = config.get_section(config.config_ini_section) or {}
            section["sqlalchemy.url"] = settings.url.get_secret_value().replace("%", "%%")
            connectable = async_engine_from_config(section, prefix="sqlalchemy.", poolclass=pool.NullPool)
            schema = "audit"

            async def run() -> None:
                async with connectable.connect() as connection:
                    await connection.run_sync(
                        lambda sync: context.configure(
                            connection=sync,
                            target_metadata=None,
                            include_object=include_object,
                            render_item=render_item,
                            version_table="revision",
                            version_table_schema=schema,
                            **OPTIONS,
                        )
                    )
                    await connection.run_sync(lambda _: context.run_migrations())

            asyncio.run(run())

        online()
        """,
        {
            "target_metadata": "None",
            "include_object": "include_object",
            "render_item": "render_item",
            "version_table": '"revision"',
            "version_table_schema": '"audit"',
            "**OPTIONS": "OPTIONS",
            "database_url": "lambda: settings.url.get_secret_value()",
        },
        [],
    ),
    "what the connection does before": (
        """
        def get_url():
            return "postgresql://localhost"

        reader = create_engine(get_url(), execution_options={"postgresql_readonly": True})

        def online():
            assert in_window()
            if settings.ENVIRONMENT == "production":
                raise RuntimeError("call the operators")
            engine = create_engine(get_url(), connect_args={"options": "-csearch_path=shop"}, pool_pre_ping=True)
            lock = acquire(engine)
            with engine.connect() as connection, connection.begin():
                connection.execute(text("SET search_path TO shop"))
                connection.dialect.default_schema_name = "shop"
                connection = connection.execution_options(schema_translate_map={None: "shop"})
                context.configure(connection=connection, include_schemas=is_large(connection), compare_type=False)
                for statement in STATEMENTS:
                    connection.execute(statement)
                context.run_migrations(engine_name="shop")
                logger.info("migrated")

        online()
        """,
        {"compare_type": "False", "database_url": "get_url"},
        [
            *(
                "execution_options=",
                "in_window",
                "production",
                "connect_args",
                "acquire",
                "SET search_path",
                "default_schema_name",
                "schema_translate_map",
            ),
            *("include_schemas", "for statement", "engine_name"),
        ],
    ),
    "two calls that differ": (
        """
        def offline():
            context.configure(url=URL, version_table_schema="shop", compare_type=False)
            with context.begin_transaction():
                context.run_migrations()

        def online():
            with create_engine(URL).connect() as connection:
                if FIRST:
                    context.configure(connection=connection, include_schemas=True, version_table='alembic_version')
                else:
                    context.configure(connection=connection)
                context.run_migrations()

        offline() if context.is_offline_mode() else online()
        """,
        {"include_schemas": "True", "version_table": "'alembic_version'", "database_url": "URL"},
        ["include_schemas=True", 'version_table_schema="shop"'],
    ),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_what_an_env_py_passes_on(name: str, tmp_path: Path) -> None:
    """What is not recognised is named, never dropped."""
    text, expected, unread = ENVIRONMENTS[name]
    path = tmp_path / "env.py"
    path.write_text("import asyncio\nimport os\n\nfrom alembic import context\n" + dedent(text))
    environment = read_environment(path)
    (url,) = environment.urls
    arguments = {**environment.options, "database_url": as_argument(url)}
    assert arguments == expected
    texts = [part.text for part in environment.unread]
    assert [part for part in unread if not any(part in text for text in texts)] == []
    assert len(texts) == len(unread), texts
    after = ast.parse(with_run_env(environment, arguments))
    names = {node.id for node in ast.walk(after) if isinstance(node, ast.Name)} | {"schema"}
    defined = {node.name for node in ast.walk(after) if isinstance(node, ast.FunctionDef | ast.alias)}
    assert names & {"settings", "include_object", "render_item", "run_env", "asyncio"} <= defined
    assert "run_migrations" not in ast.unparse(after)


def test_the_rest_of_env_py_stays(tmp_path: Path) -> None:
    """Comments, models that are imported for their effect, and functions; unused imports of libraries go."""
    text = FULL_STACK.replace(
        "config = context.config", "import app.more  # noqa: F401\n\nconfig = context.config  # ours"
    )
    (tmp_path / "env.py").write_text(text)
    environment = read_environment(tmp_path / "env.py")
    after = with_run_env(environment, {"target_metadata": "target_metadata", "database_url": "get_url"})
    kept, _, _ = text.partition("def run_migrations_offline")
    kept = kept.replace("from sqlalchemy import engine_from_config, pool\n", "from safe_migrations import run_env\n")
    kept = kept.replace("import context\nfrom safe", "import context\nfrom safe").replace(
        "file_name)", "file_name, disable_existing_loggers=False)"
    )
    assert after == kept + "run_env(target_metadata=target_metadata, database_url=get_url)\n"
