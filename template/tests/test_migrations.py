"""Every revision goes up, down and up again on a real PostgreSQL, and ends at the models."""

import io
import os
import subprocess

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from conftest import Database

from config import POSTGRES_VERSION, SERVICE_FOLDER
from models_db import Base
from safe_migrations.connection import client_environment
from safe_migrations.embedded import find_programs


def test_upgrade_persists(empty_database: Database) -> None:
    empty_database.alembic(command.upgrade, "head")
    assert empty_database.tables() == {*Base.metadata.tables, "alembic_version"}


def test_stairway(empty_database: Database) -> None:
    """Up, down and up again, revision by revision, then down to base and up to head."""
    scripts = ScriptDirectory(SERVICE_FOLDER / "alembic")
    for script in reversed(list(scripts.walk_revisions())):
        empty_database.alembic(command.upgrade, script.revision)
        if not script.is_merge_point:
            empty_database.alembic(command.downgrade, script.down_revision or "base")
            empty_database.alembic(command.upgrade, script.revision)
    empty_database.alembic(command.downgrade, "base")
    assert empty_database.tables() == {"alembic_version"}
    empty_database.alembic(command.upgrade, "head")
    empty_database.alembic(command.check)


def test_models_equal_schema(database: Database) -> None:
    database.alembic(command.check)


def test_offline_sql_runs_through_psql(empty_database: Database) -> None:
    sql = io.StringIO()
    command.upgrade(Config(SERVICE_FOLDER / "alembic.ini", output_buffer=sql), "head", sql=True)
    subprocess.run(
        [find_programs(POSTGRES_VERSION) / "psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"],
        input=sql.getvalue(),
        env=os.environ | client_environment(empty_database.url),
        text=True,
        check=True,
    )
    empty_database.alembic(command.check)
