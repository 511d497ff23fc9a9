"""The tests that every service needs; its `tests/test_migrations.py` imports them by name."""

import io
import re
import shutil
import subprocess
from argparse import Namespace
from collections import Counter
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from alembic.util import to_list

from safe_migrations.env_files import environment_of_programs
from safe_migrations.history.frozen import new_revisions
from safe_migrations.postgres.connection import run_async
from safe_migrations.postgres.database import client_environment
from safe_migrations.postgres.programs import find_programs
from safe_migrations.revisions import named
from safe_migrations.template.update import unsolved
from safe_migrations.testing import Database
from safe_migrations.trace.phase_check import check_phases
from safe_migrations.upgrade.project import Project
from safe_migrations.upgrade.states import known_revisions


def test_upgrade_persists(empty_database: Database, project: Project) -> None:
    """The tables of the models exist after the upgrade, for everybody."""
    empty_database.alembic(command.upgrade, "heads")
    models = [table for metadata in to_list(project.options["target_metadata"]) for table in metadata.tables.values()]
    assert {table.name for table in models if table.schema is None} <= empty_database.tables()


def test_stairway(empty_database: Database, scripts: ScriptDirectory) -> None:
    """Each new revision goes up, down and up again; then the whole history goes down to base and up to head.

    The revisions of the main branch run up, down and up as a whole: each of them was new once.
    """
    for script in new_revisions(scripts):
        if not script.is_merge_point:
            empty_database.alembic(command.upgrade, script.revision)
            _downgrade(empty_database, str(script.down_revision or f"{script.revision}@base"))
    empty_database.alembic(command.upgrade, "heads")
    _downgrade(empty_database, "base")
    assert empty_database.tables() <= {empty_database.service.version_table}
    empty_database.alembic(command.upgrade, "heads")
    empty_database.alembic(command.check)


def test_models_equal_schema(database: Database) -> None:
    """Nothing differs between the models and a database at head."""
    database.alembic(command.check)


def test_offline_sql_runs_through_psql(empty_database: Database) -> None:
    """What `alembic upgrade head --sql` prints makes the same schema."""
    service, sql = empty_database.service, io.StringIO()
    command.upgrade(Config(service.config_file, output_buffer=sql), "heads", sql=True)
    subprocess.run(
        [find_programs(service.postgres_version) / "psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"],
        input=sql.getvalue(),
        env=environment_of_programs("PG") | client_environment(empty_database.url),
        text=True,
        check=True,
    )
    empty_database.alembic(command.check)


def test_new_revisions_do_what_their_phase_allows(empty_database: Database, project: Project) -> None:
    """What each new revision locks, scans and rewrites in tables with rows."""
    if sentences := run_async(check_phases(project, empty_database.connectable)):
        pytest.fail("\n".join(sentences), pytrace=False)


def test_one_head(scripts: ScriptDirectory) -> None:
    """No two developers have each added a revision to one branch."""
    known = known_revisions(scripts)
    heads = named(known.unmerged, known.files)
    assert not known.unmerged, f"one branch has several heads ({heads}); move the unapplied one: safe-migrations rebase"


def test_files_are_in_order(scripts: ScriptDirectory) -> None:
    """The files are named YYYYMMDD_NNNN_description.py, and numbered along the history, but for older ones."""
    numbers: dict[str, int] = {}
    for script in reversed(list(scripts.walk_revisions())):
        before = {
            revision.path: numbers[revision.revision] for revision in scripts.get_revisions(script.down_revision or ())
        }
        number = numbers[script.revision] = _number(script)
        assert number or not any(before.values()), f"{script.path} is not named YYYYMMDD_NNNN_description.py"
        for path, lower in before.items():
            assert lower < number or not lower, f"{path} comes before {script.path}: rename the later file"
    for number, count in Counter(number for number in numbers.values() if number).most_common(1):
        assert count == 1, f"{count} files have the number {number:04d}: rename the later file"


@pytest.mark.skipif(not shutil.which("git"), reason="without git there was no update")
def test_nothing_is_left_of_an_update(alembic_ini: Path) -> None:
    """No conflict and no rejected change of a template's update is left to solve."""
    assert unsolved(alembic_ini.parent) == []


def _downgrade(database: Database, revision: str) -> None:
    """Downgrade, also where that destroys the rows which revisions have inserted."""
    config = database.config()
    config.cmd_opts = Namespace(x=["yes"])
    command.downgrade(config, revision)


def _number(script: Script) -> int:
    """The number of a file; 0 for a file whose name has none."""
    name = re.fullmatch(r"\d{8}_(\d{4})_\w+\.py", Path(script.path).name)
    return int(name[1]) if name else 0
