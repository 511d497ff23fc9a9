"""What this library logs is heard in any project, and the loggers of others are as they were after each command."""

import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from alembic import command
from alembic.config import CommandLine, Config
from alembic.util import CommandError
from sqlalchemy import URL

from safe_migrations.autogenerate.preview import read_preview
from safe_migrations.errors import MigrationError
from safe_migrations.operate.rehearse import rehearse
from safe_migrations.operate.status import read_report
from safe_migrations.postgres.connection import run_async
from safe_migrations.upgrade.project import load_project
from support import REVISION, as_text, bare_environment, fetch
from warm_python import run

UPGRADE_THEN_WARN = """
from alembic import command
from alembic.config import CommandLine, Config
from safe_migrations.upgrade.executor import log

command.upgrade(Config("alembic.ini"), "head", sql=True)
log.warning("this is heard")
"""


def test_library_is_heard_where_env_py_disables_the_loggers_that_exist(tmp_path: Path) -> None:
    environment = bare_environment(PATH=os.fspath(Path(sys.executable).parent))
    run(("alembic", "init", "alembic"), tmp_path, environment)
    env = tmp_path / "alembic" / "env.py"
    before, separator, _ = env.read_text().partition("def run_migrations_offline")
    assert separator
    assert "fileConfig(config.config_file_name)" in before
    env.write_text(
        f"from safe_migrations import run_env\n{before}\nrun_env(database_url='postgresql://localhost/shop')\n"
    )
    process = run(("python", "-c", UPGRADE_THEN_WARN), tmp_path, environment)
    assert process.returncode == 0
    assert "this is heard" in process.stderr


ENV_PY = """
from sqlalchemy import Column, Integer, MetaData, Table
from safe_migrations import run_env

metadata = MetaData()
Table("item", metadata, Column("id", Integer, primary_key=True), Column("added", Integer))
run_env(target_metadata=metadata, database_url={url!r})
"""
LOGGERS = ("alembic", "alembic.autogenerate", "alembic.runtime.migration", "safe_migrations")


@pytest.fixture
def project(tmp_path: Path, database: URL) -> Config:
    """An Alembic project whose second revision fails, and whose model has a column that no revision adds."""
    versions = tmp_path / "alembic" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s/alembic\npath_separator = os\n")
    (tmp_path / "alembic" / "script.py.mako").write_text("")
    (tmp_path / "alembic" / "env.py").write_text(ENV_PY.format(url=as_text(database)))
    bodies = {"one": 'op.create_table("item", sa.Column("id", sa.Integer(), primary_key=True))', "two": "1 / 0"}
    before = "None"
    for name, body in bodies.items():
        text = REVISION.format(
            revision=name, down_revision=before, declarations="", upgrade=f"    {body}", downgrade="    pass"
        )
        (versions / f"{name}.py").write_text(text.replace('"None"', "None"))
        before = name
    return Config(tmp_path / "alembic.ini", attributes={"url": as_text(database)})


@pytest.fixture
def loggers_of_an_application() -> Iterator[None]:
    """Levels and filters as an application may have them; one of them hears more than Alembic says by default."""
    for number, name in enumerate(LOGGERS):
        logging.getLogger(name).setLevel(logging.DEBUG + number)
        logging.getLogger(name).addFilter(_everything)
    yield
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.NOTSET)
        logging.getLogger(name).removeFilter(_everything)


def _everything(_: logging.LogRecord) -> bool:
    return True


def settings() -> dict[str, tuple[object, ...]]:
    """All that decides whether a message is heard, of each logger."""
    loggers = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    states: dict[str, tuple[object, ...]] = {
        logger.name: (logger.level, *logger.filters, *logger.handlers, logger.disabled, logger.propagate)
        for logger in (logging.root, *loggers)
    }
    return states | {"": (logging.root.manager.disable,)}


@pytest.mark.parametrize("own", [False, True])
def test_loggers_are_as_before_after_each_command(project: Config, own: bool, request: pytest.FixtureRequest) -> None:
    if own:
        request.getfixturevalue("loggers_of_an_application")

    def drop_the_failing_one() -> None:
        Path(str(project.config_file_name)).with_name("alembic").joinpath("versions", "two.py").unlink()

    def rehearse_the_failing_one() -> None:
        loaded = load_project(project)
        run_async(rehearse(loaded, [loaded.script.get_revision("two")], []))

    steps: list[tuple[Callable[[], object], str | None]] = [
        (lambda: load_project(project), None),
        (lambda: command.upgrade(project, "base:one", sql=True), None),
        (lambda: command.upgrade(project, "one"), None),
        (lambda: command.upgrade(project, "two"), "division by zero"),
        (rehearse_the_failing_one, "two.py .* division by zero"),
        (drop_the_failing_one, None),
        (lambda: read_report(load_project(project)), None),
        (lambda: read_preview(load_project(project)), None),
        (lambda: command.check(project), "add_column"),
    ]
    for step, error in steps:
        before = settings()
        with nullcontext() if error is None else pytest.raises((MigrationError, CommandError), match=error):
            step()
        after = settings()
        assert {name: after[name] for name in before} == before


def test_revision_lists_its_files_without_a_line_for_each_difference(
    project: Config, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(str(project.config_file_name)).parent / "alembic"
    models = ENV_PY.replace("Column(", 'CheckConstraint("id > 0", name="id"), Column(', 1)
    folder.joinpath("env.py").write_text(
        models.replace("import Column", "import CheckConstraint, Column").format(url=str(project.attributes["url"]))
    )
    folder.joinpath("versions", "two.py").unlink()
    shutil.copy(Path(command.__file__).parent / "templates" / "generic" / "script.py.mako", folder)
    command.upgrade(project, "one")
    caplog.set_level(logging.INFO)
    arguments = ["-c", str(project.config_file_name), "revision", "--autogenerate", "--message", "add a check"]
    CommandLine().main(arguments)
    assert len(list(folder.joinpath("versions").glob("*.py"))) > 1
    assert not [record for record in caplog.records if "Detected" in record.getMessage()]


def test_check_is_silent_on_what_is_no_difference(
    project: Config, database: URL, caplog: pytest.LogCaptureFixture
) -> None:
    Path(str(project.config_file_name)).with_name("alembic").joinpath("versions", "two.py").unlink()
    command.upgrade(project, "one")  # its key is a serial column
    fetch(database, "ALTER TABLE item ADD COLUMN added integer")
    caplog.clear()
    caplog.set_level(logging.INFO)
    command.check(project)
    lines = [record.getMessage() for record in caplog.records]
    assert not lines
