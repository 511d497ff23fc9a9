"""What a revision that can't get its locks leaves behind, and what the next try finds."""

import pytest
from sqlalchemy import URL

from lock_holder import end, holding, said, wait_for_a_try_that_fails
from safe_migrations.dev.cluster import throw_away_cluster
from safe_migrations.errors import ConnectionFailedError, RevisionError
from safe_migrations.postgres.programs import find_programs
from support import Render, Service, ToHead, fetch

TABLES = """
op.execute("CREATE TABLE applied (revision text NOT NULL)")
op.execute("CREATE TABLE entry (id bigint PRIMARY KEY, word text NOT NULL)")
"""
UPGRADE = ("alembic", "upgrade", "head")
ADD = 'op.add_column("entry", sa.Column("added", sa.Text()))'
INSERT = "op.execute(\"INSERT INTO applied VALUES ('once')\")"


@pytest.fixture
def prepared(service: Service, to_head: ToHead) -> Service:
    """A service whose database has the tables, and whose migrations give up soon."""
    service.add_revision("tables", TABLES)
    to_head()
    service.environment |= {"MIGRATION_LOCK_TIMEOUT": "200ms", "MIGRATION_RETRY_WINDOW": "20s"}
    return service


@pytest.mark.parametrize(
    "leave",
    [
        'op.execute("COMMIT")\n' + INSERT,
        INSERT + '\nop.execute("COMMIT")',
        INSERT + '\nop.execute("/* over */ end")',
        INSERT + '\nop.execute("COMMIT AND CHAIN")',
        INSERT + '\nop.execute("COMMIT")\nop.execute("BEGIN")',
        INSERT + '\nop.execute("COMMIT AND CHAIN")\nop.execute("ROLLBACK AND CHAIN")',
        INSERT + "\nop.get_bind().commit()",
        f"with op.get_context().autocommit_block():\n    {INSERT}",
        INSERT + "\nop.execute('COMMIT')\nop.create_index_concurrently('ix_applied', 'applied', ['revision'])",
    ],
)
def test_what_has_committed_is_not_tried_again(prepared: Service, database: URL, leave: str) -> None:
    prepared.add_revision("leaves", f"{leave}\n{ADD}")
    with holding(database):
        sentence = said(end(prepared.start(*UPGRADE), RevisionError.exit_status))
    assert fetch(database, "SELECT count(*) FROM applied") == [(1,)]
    assert "_leaves.py" in sentence
    assert "committed" in sentence
    assert "rolled back" not in sentence


def test_a_lost_connection_after_a_commit_is_not_called_rolled_back(prepared: Service, database: URL) -> None:
    kill = 'op.execute("SELECT pg_terminate_backend(pg_backend_pid())")'
    prepared.add_revision("leaves", f"with op.get_context().autocommit_block():\n    {INSERT}\n    {kill}")
    sentence = said(end(prepared.start(*UPGRADE), ConnectionFailedError.exit_status))
    assert fetch(database, "SELECT count(*) FROM applied") == [(1,)]
    assert "committed" in sentence
    assert "rolls back" not in sentence


@pytest.mark.parametrize(
    ("module", "body", "rows"),
    [
        ("ROWS = ({'revision': str(number)} for number in range(3))", "op.bulk_insert(APPLIED, list(ROWS))", 3),
        ("ROWS = iter([{'revision': 'a'}])", "op.bulk_insert(APPLIED, list(ROWS))", 1),
        ("LEFT = [{'revision': 'a'}]", "op.bulk_insert(APPLIED, [LEFT.pop()])", 1),
        ("from alembic_rows import ROWS", "op.bulk_insert(APPLIED, list(ROWS))", 1),
        ("", "op.bulk_insert(APPLIED, [{'revision': 'a'}])", 1),
    ],
)
def test_the_next_try_begins_as_a_new_process_does(
    prepared: Service, database: URL, module: str, body: str, rows: int
) -> None:
    prepared.folder.joinpath("alembic", "alembic_rows.py").write_text("ROWS = iter([{'revision': 'a'}])\n")
    prepared.environment["PYTHONPATH"] = "alembic"
    applied = 'APPLIED = sa.table("applied", sa.column("revision", sa.Text()))'
    prepared.add_revision("data", f"{body}\n{ADD}", declarations=f"{applied}\n{module}")
    with holding(database):
        process = prepared.start(*UPGRADE)
        wait_for_a_try_that_fails(database)
    end(process)
    assert fetch(database, "SELECT count(*) FROM applied") == [(rows,)]


def test_a_file_that_can_not_be_loaded_twice_is_named(prepared: Service, database: URL) -> None:
    shared = "import config\nconfig.count = getattr(config, 'count', 0) + 1\nassert config.count < 2"
    prepared.add_revision("counts", ADD, declarations=shared)
    with holding(database):
        sentence = said(end(prepared.start(*UPGRADE), RevisionError.exit_status))
    assert "_counts.py" in sentence


def test_a_type_of_the_rolled_back_try_is_forgotten(prepared: Service, database: URL) -> None:
    body = """
    kind = sa.Enum("a", "b", name="kind")
    op.create_table("thing", sa.Column("kind", kind), sa.Column("kinds", sa.ARRAY(kind)))
    op.bulk_insert(sa.table("thing", sa.column("kind", kind), sa.column("kinds", sa.ARRAY(kind))),
        [{"kind": "a", "kinds": ["a", "b"]}])
    op.get_bind().execute(sa.text("SELECT kind, kinds FROM thing")).all()
    """
    prepared.add_revision("types", f"{body}\n    {ADD}")
    with holding(database):
        process = prepared.start(*UPGRADE)
        wait_for_a_try_that_fails(database)
    end(process)
    assert fetch(database, "SELECT count(*) FROM thing") == [(1,)]


def test_a_revision_may_begin_with_the_level_of_its_transaction(prepared: Service, database: URL) -> None:
    """PostgreSQL takes it before any query only. In the first revision of a run, Alembic has read its version table."""
    prepared.add_revision("first", "pass")
    level = 'op.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")'
    prepared.add_revision("level", f"{level}\n{INSERT}\n{ADD}")
    prepared.succeed(*UPGRADE)
    assert fetch(database, "SELECT count(*) FROM applied") == [(1,)]


def test_a_prepared_transaction_is_ended_by_its_name(render: Render) -> None:
    """It holds its locks without a session, so there is none to end."""
    service = render()
    service.add_revision("tables", TABLES)
    with throw_away_cluster(find_programs(18)) as cluster:
        database = cluster.url()
        service.configure(database)
        service.succeed(*UPGRADE)
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
