"""How long a migration keeps others waiting, waits itself, and how many connections it takes."""

import asyncio
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import URL, column, select, table

from blocking_statement import AT_THE_GATE, GATE, wait_for
from lock_holder import connect, end, holding, read_one_after_the_other, said
from safe_migrations.dev.cluster import throw_away_cluster
from safe_migrations.errors import ConnectionFailedError
from safe_migrations.postgres.programs import find_programs
from support import NewRole, Render, Service, ToHead, fetch
from traffic import LONGEST_STALL, traffic

UPGRADE = ("alembic", "upgrade", "head")
PARTITIONS = 10
AT_COMMIT = """
op.execute("CREATE TABLE slow (id int)")
op.execute("CREATE FUNCTION wait_there() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$")
op.execute("CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED "
    "FOR EACH ROW EXECUTE FUNCTION wait_there()")
op.execute("INSERT INTO slow VALUES (1)")
"""
COMMITTING = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'COMMIT%' AND wait_event = 'PgSleep'"
WAITING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
PARENT = """
op.execute("CREATE TABLE entry (id bigint NOT NULL, word text) PARTITION BY LIST (id)")
for number in range(10):
    op.execute(f"CREATE TABLE entry_{number} PARTITION OF entry FOR VALUES IN ({number})")
    op.execute(f"CREATE TABLE other_{number} (id bigint)")
"""


@pytest.fixture
def prepared(service: Service, to_head: ToHead) -> Service:
    """A service with a partitioned table and ten others."""
    service.add_revision("tables", PARENT)
    to_head()
    return service


@pytest.mark.parametrize(
    ("tables", "body"),
    [
        ([f"entry_{number}" for number in range(PARTITIONS)], 'op.add_column("entry", sa.Column("added", sa.Text()))'),
        (
            [f"other_{number}" for number in range(PARTITIONS)],
            'for number in range(10):\n    op.add_column(f"other_{number}", sa.Column("added", sa.Text()))',
        ),
    ],
    ids=["partitions", "ten tables"],
)
def test_a_reader_waits_no_longer_for_many_locks_than_for_one(
    prepared: Service, database: URL, tables: list[str], body: str
) -> None:
    prepared.add_revision("column", body)
    first = "entry" if tables[0].startswith("entry") else tables[0]
    with (
        ThreadPoolExecutor(max_workers=1) as executor,
        traffic(database, [select(column("id")).select_from(table(first))]) as running,
    ):
        readers = executor.submit(asyncio.run, read_one_after_the_other(database, tables, 0.8))
        time.sleep(0.3)
        process = prepared.start(*UPGRADE)
        readers.result()
        end(process)
    assert running.errors == []
    assert max(running.longest.values()) < LONGEST_STALL


def test_a_server_process_that_stands_still_is_given_up(render: Render) -> None:
    """No timeout of the server ends its statement. The server is this test's own: others could not drop a database."""
    service = render()
    service.environment |= {"MIGRATION_STATEMENT_TIMEOUT": "2s", "MIGRATION_LOCK_TIMEOUT": "1min"}
    service.add_revision("tables", 'op.execute("CREATE TABLE gate ()")')
    with throw_away_cluster(find_programs(18)) as cluster:
        gated, locked, committing = (cluster.url(name) for name in ("gated", "locked", "committing"))
        fetch(cluster.url(), "CREATE DATABASE gated")
        service.configure(gated)
        service.succeed(*UPGRADE)
        for database in (committing, locked):
            fetch(cluster.url(), f"CREATE DATABASE {database.database} TEMPLATE gated")
        service.configure(locked)
        service.add_revision("gate", GATE)
        service.add_revision("commit", AT_COMMIT)
        commands = (
            ("alembic", "current"),
            ("safe-migrations", "state"),
            ("safe-migrations", "state", "--quick"),
            UPGRADE,
        )
        with holding(locked, "LOCK TABLE alembic_version"):
            processes = [service.start(*command) for command in commands]
            pids = wait_for(locked, WAITING, count=len(commands))
            service.configure(gated)
            processes.append(service.start(*UPGRADE))
            pids += wait_for(gated, AT_THE_GATE)
            fetch(committing, "INSERT INTO gate DEFAULT VALUES")
            service.configure(committing)
            processes.append(service.start(*UPGRADE))
            pids += wait_for(committing, COMMITTING)
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            try:
                sentences = [said(end(process, ConnectionFailedError.exit_status)) for process in processes]
                assert ["_gate.py" in sentences[-2], "_commit.py" in sentences[-1]] == [True, True]
            finally:
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)


def test_a_timeout_of_the_revision_ends_no_statement_of_it(prepared: Service) -> None:
    """Wherever the setting's name stands."""
    prepared.environment["MIGRATION_STATEMENT_TIMEOUT"] = "1s"
    set_config = (
        "op.get_bind().execute(sa.text('SELECT set_config(:n, :v, true)'), {'n': 'statement_timeout', 'v': '0'})"
    )
    prepared.add_revision("long", f"{set_config}\nop.execute('SELECT pg_sleep(12)')")
    prepared.succeed(*UPGRADE)


def test_a_vacuum_that_waits_does_not_end_a_concurrent_build(prepared: Service, database: URL) -> None:
    """Which keeps neither readers nor writers waiting, and would begin anew."""

    async def vacuum() -> None:
        connection = await connect(database, "vacuum")
        await connection.execute("VACUUM other_0")
        await connection.close()

    prepared.environment["MIGRATION_LOCK_TIMEOUT"] = "200ms"
    prepared.add_revision("index", "op.create_index_concurrently('ix_other', 'other_0', ['id'])")
    with ThreadPoolExecutor(max_workers=1) as executor:
        with holding(database, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1"):
            process = prepared.start(*UPGRADE)
            wait_for(database, "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%'")
            waiting = executor.submit(asyncio.run, vacuum())
            time.sleep(2)
        assert "did not get a lock" not in end(process)
        waiting.result()


def test_starters_need_one_connection_each(prepared: Service, database: URL, new_role: NewRole, thorough: bool) -> None:
    """Those that find none wait for one, as for the lock."""
    role = new_role("LOGIN", "secret")
    prepared.add_revision("slow", "op.execute('SELECT pg_sleep(1)')")
    for statement in ("GRANT ALL ON SCHEMA public TO {0}", "GRANT ALL ON ALL TABLES IN SCHEMA public TO {0}"):
        fetch(database, statement.format(role))
    starters = 16 if thorough else 5
    fetch(database, f"ALTER ROLE {role} CONNECTION LIMIT {starters + 1}")
    prepared.configure(database.set(username=role, password="secret"))
    for process in [prepared.start(*UPGRADE) for _ in range(starters)]:
        end(process)
