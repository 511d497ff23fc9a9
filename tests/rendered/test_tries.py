"""What a revision that can't get its locks leaves behind, and what the next try finds."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
from alembic import command
from sqlalchemy import URL

from lock_holder import holding, wait_for_a_try_that_fails
from plain_project import PlainProject
from safe_migrations.dev.cluster import throw_away_cluster
from safe_migrations.errors import ConnectionFailedError, RevisionError
from safe_migrations.postgres.programs import find_programs
from support import Render, fetch

TABLES = """
    CREATE TABLE applied (revision text NOT NULL);
    CREATE TABLE entry (id bigint PRIMARY KEY, word text NOT NULL)
"""
UPGRADE = ("alembic", "upgrade", "head")
ADD = 'op.add_column("entry", sa.Column("added", sa.Text()))'
INSERT = "op.execute(\"INSERT INTO applied VALUES ('once')\")"


LEAVES = [
    'op.execute("COMMIT")\n' + INSERT,
    INSERT + '\nop.execute("COMMIT")',
    INSERT + '\nop.execute("/* over */ end")',
    INSERT + '\nop.execute("COMMIT AND CHAIN")',
    INSERT + '\nop.execute("COMMIT")\nop.execute("BEGIN")',
    INSERT + '\nop.execute("COMMIT AND CHAIN")\nop.execute("ROLLBACK AND CHAIN")',
    INSERT + "\nop.get_bind().commit()",
    f"with op.get_context().autocommit_block():\n    {INSERT}",
    INSERT + "\nop.execute('COMMIT')\nop.create_index_concurrently('ix_applied', 'applied', ['revision'])",
]


@pytest.fixture
def project(tmp_path: Path, database: URL, monkeypatch: pytest.MonkeyPatch) -> PlainProject:
    """A project whose database has the tables, and whose migrations give up soon."""
    monkeypatch.setenv("MIGRATION_LOCK_TIMEOUT", "200ms")
    monkeypatch.setenv("MIGRATION_RETRY_WINDOW", "20s")
    project = PlainProject(tmp_path / "project", database)
    project.begin("tables", TABLES)
    return project


def upgrade_with_two_tries(project: PlainProject) -> None:
    """Upgrade, while a table is locked until the first try has failed."""
    with ThreadPoolExecutor(max_workers=1) as executor:
        with holding(project.url):
            running = executor.submit(project.alembic, command.upgrade, "head")
            wait_for_a_try_that_fails(project.url)
        running.result()


def test_what_has_committed_is_not_tried_again(project: PlainProject, database: URL) -> None:
    for number, leave in enumerate(LEAVES):
        file = project.add(f"leaves_{number}", f"{leave}\n{ADD}", after="tables")
        with holding(database), pytest.raises(RevisionError, match=rf"leaves_{number}\.py") as error:
            project.alembic(command.upgrade, "head")
        assert fetch(database, "SELECT count(*) FROM applied") == [(1,)], leave
        assert "committed" in str(error.value), leave
        assert "rolled back" not in str(error.value), leave
        fetch(database, "DELETE FROM applied")
        file.unlink()


def test_a_lost_connection_after_a_commit_is_not_called_rolled_back(project: PlainProject, database: URL) -> None:
    kill = 'op.execute("SELECT pg_terminate_backend(pg_backend_pid())")'
    leave = f"with op.get_context().autocommit_block():\n    {INSERT}\n    {kill}"
    project.add("leaves", leave, after="tables")
    with pytest.raises(ConnectionFailedError, match="committed") as error:
        project.alembic(command.upgrade, "head")
    assert fetch(database, "SELECT count(*) FROM applied") == [(1,)]
    assert "rolls back" not in str(error.value)


def test_the_next_try_begins_as_a_new_process_does(
    project: PlainProject, database: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project.folder / "migrations"
    folder.joinpath("rows_of_a_module.py").write_text("ROWS = iter([{'revision': 'imported'}])\n")
    monkeypatch.syspath_prepend(folder)
    body = """
    rows = [*NUMBERS, *ITERATED, LEFT.pop(), *ROWS, {'revision': 'of the body'}]
    op.bulk_insert(sa.table("applied", sa.column("revision", sa.Text())), rows)
    """
    file = project.add("data", f"{body}{ADD}", after="tables")
    module = """
from rows_of_a_module import ROWS

NUMBERS = ({'revision': str(number)} for number in range(3))
ITERATED = iter([{'revision': 'iterated'}])
LEFT = [{'revision': 'left'}]
"""
    file.write_text(file.read_text() + module)
    upgrade_with_two_tries(project)
    rows = {"0", "1", "2", "iterated", "left", "imported", "of the body"}
    assert {row.revision for row in fetch(database, "SELECT revision FROM applied")} == rows


def test_a_file_that_can_not_be_loaded_twice_is_named(
    project: PlainProject, database: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "module_of_all", ModuleType("module_of_all"))
    file = project.add("counts", ADD, after="tables")
    shared = "import {0}\n{0}.count = getattr({0}, 'count', 0) + 1\nassert {0}.count < 2\n"
    file.write_text(file.read_text() + shared.format("module_of_all"))
    with holding(database), pytest.raises(RevisionError, match=r"counts\.py"):
        project.alembic(command.upgrade, "head")


def test_a_type_of_the_rolled_back_try_is_forgotten(project: PlainProject, database: URL) -> None:
    body = """
    kind = sa.Enum("a", "b", name="kind")
    op.create_table("thing", sa.Column("kind", kind), sa.Column("kinds", sa.ARRAY(kind)))
    op.bulk_insert(sa.table("thing", sa.column("kind", kind), sa.column("kinds", sa.ARRAY(kind))),
        [{"kind": "a", "kinds": ["a", "b"]}])
    op.get_bind().execute(sa.text("SELECT kind, kinds FROM thing")).all()
    """
    project.add("types", f"{body}{ADD}", after="tables")
    upgrade_with_two_tries(project)
    assert fetch(database, "SELECT count(*) FROM thing") == [(1,)]


def test_a_revision_may_begin_with_the_level_of_its_transaction(project: PlainProject, database: URL) -> None:
    """PostgreSQL takes it before any query only. In the first revision of a run, Alembic has read its version table."""
    project.add("first", "pass", after="tables")
    level = 'op.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")'
    project.add("level", f"{level}\n{INSERT}\n{ADD}", after="first")
    project.alembic(command.upgrade, "head")
    assert fetch(database, "SELECT count(*) FROM applied") == [(1,)]


def test_a_prepared_transaction_is_ended_by_its_name(render: Render) -> None:
    """It holds its locks without a session, so there is none to end."""
    service = render()
    with throw_away_cluster(find_programs(18)) as cluster:
        database = cluster.url()
        service.configure(database)
        service.succeed(*UPGRADE)
        fetch(database, "CREATE TABLE entry (id bigint)")
        fetch(database, "ALTER SYSTEM SET max_prepared_transactions = 2")
        cluster.stop()
        cluster.start(database.port)
        with holding(database, "LOCK TABLE entry; PREPARE TRANSACTION 'it''s'"):
            pass
        service.add_revision("column", ADD)
        service.environment |= {"MIGRATION_LOCK_TIMEOUT": "200ms", "MIGRATION_RETRY_WINDOW": "1s"}
        end_it = "ROLLBACK PREPARED 'it''s';"
        assert end_it in service.succeed("safe-migrations", "locks")
        for command in (UPGRADE, ("safe-migrations", "locks", "--terminate", "0", "--yes")):
            assert service.fail(*command).splitlines()[-1] == end_it
        fetch(database, end_it.rstrip(";"))
        service.succeed(*UPGRADE)
