"""Many starters of `alembic upgrade head` at once, as when all replicas of a service start together."""

import pytest
from sqlalchemy import URL

from blocking_statement import AT_THE_GATE, GATE, WAITING_FOR_THE_LOCK, open_gate, wait_for
from safe_migrations.errors import LockedError
from support import Process, Service, ToHead, fetch

STARTERS = 16, 5  # thoroughly, and by default

TABLES = """
op.execute("CREATE TABLE applied (revision text NOT NULL)")
op.execute("CREATE TABLE gate ()")
op.execute("CREATE TABLE entry (id bigint PRIMARY KEY, word text NOT NULL)")
op.execute("INSERT INTO entry SELECT n, md5(n::text) FROM generate_series(1, 1000) n")
"""
DATA = "op.execute(\"INSERT INTO applied VALUES ('{name}')\")"
# What is not in the revision's transaction is applied once for each run that gets there.
DATA_IN_A_BLOCK = """
with op.get_context().autocommit_block():
    op.execute("INSERT INTO applied VALUES ('{name}')")
"""
INDEX = 'op.create_index_concurrently("ix_entry_word", "entry", ["word"])'
HOLDERS = """
    SELECT DISTINCT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE locktype = 'advisory' AND granted AND datname = current_database()
"""


def start(service: Service, count: int = 1, *, target: str = "head", **variables: str) -> list[Process]:
    return [service.start("alembic", "upgrade", target, **variables) for _ in range(count)]


def end(process: Process) -> str:
    """Wait for a starter that must end with 0, and return what it logged."""
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    return stderr


def applied(database: URL) -> list[str]:
    return [row.revision for row in fetch(database, "SELECT revision FROM applied ORDER BY revision")]


def revision(database: URL) -> str:
    ((number,),) = fetch(database, "SELECT version_num FROM alembic_version")
    return str(number)


def test_all_starters_end_well_and_each_revision_is_applied_once(
    service: Service, database: URL, thorough: bool
) -> None:
    service.add_revision("tables", TABLES, 'op.execute("DROP TABLE applied, gate, entry")')
    service.add_revision("data", DATA.format(name="data"))
    service.add_revision("index", INDEX, 'op.drop_index_concurrently("ix_entry_word")')
    service.add_revision("slow", DATA.format(name="slow") + '\nop.execute("SELECT pg_sleep(1)")')
    service.add_revision("block", DATA_IN_A_BLOCK.format(name="block"))
    head = service.add_revision("last", DATA.format(name="last"))
    for _ in range(10 if thorough else 1):
        for process in start(service, STARTERS[0] if thorough else STARTERS[1]):
            end(process)
        assert revision(database) == head
        assert applied(database) == ["block", "data", "last", "slow"]
        assert fetch(database, "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid") == []
        service.succeed("alembic", "-x", "yes", "downgrade", "base")


@pytest.mark.thorough("it looks at stock Alembic, and the test before it at ours")
def test_stock_alembic_fails_where_several_start(service: Service, database: URL) -> None:
    """The trap is real."""
    service.use_stock_environment()
    service.add_revision("slow", 'op.execute("CREATE TABLE slow ()")\nop.execute("SELECT pg_sleep(2)")')
    processes = start(service, 4)
    for process in processes:
        process.communicate(timeout=60)
    assert any(process.returncode for process in processes)
    assert not all(process.returncode for process in processes)


def test_a_waiting_starter_names_who_is_running_and_gives_up_in_time(
    service: Service, database: URL, to_head: ToHead
) -> None:
    before = service.add_revision("tables", TABLES)
    to_head()
    head = service.add_revision("slow", GATE + DATA.format(name="slow"))
    (first,) = start(service)
    wait_for(database, AT_THE_GATE)
    holders = [row.pid for row in fetch(database, HOLDERS)]
    patient, (impatient,) = start(service, 2), start(service, MIGRATION_LOCK_WAIT="1s")

    _, stderr = impatient.communicate(timeout=60)
    assert impatient.returncode == LockedError.exit_status
    assert "Traceback" not in stderr
    waiting, sentence, command = stderr.splitlines()
    assert waiting.startswith("INFO "), stderr
    assert "MIGRATION_LOCK_WAIT" in sentence
    assert command == "safe-migrations locks"
    for line in (waiting, sentence):
        assert any(f"pid {pid}, application alembic, since 2" in line for pid in holders), line
    assert (revision(database), applied(database)) == (before, [])

    wait_for(database, WAITING_FOR_THE_LOCK, count=len(patient))
    open_gate(database)
    end(first)
    for process in patient:
        stderr = end(process)
        assert waiting.partition("migration: ")[2] in stderr
        assert "nothing to do" in stderr
    assert (revision(database), applied(database)) == (head, ["slow"])


def test_no_waiting_starter_is_in_the_way_of_a_concurrent_index(
    service: Service, database: URL, to_head: ToHead
) -> None:
    """One that waits inside pg_advisory_lock() has a snapshot, for which the index's build waits: a deadlock."""
    service.add_revision("tables", TABLES)
    to_head()
    service.add_revision("gate", GATE)
    head = service.add_revision("index", INDEX)
    (first,) = start(service)
    wait_for(database, AT_THE_GATE)
    waiting = start(service, 2)
    wait_for(database, WAITING_FOR_THE_LOCK, count=len(waiting))
    open_gate(database)
    for process in (first, *waiting):
        stderr = end(process)
        assert "deadlock" not in stderr
        assert "did not get a lock" not in stderr
    assert revision(database) == head
    assert fetch(database, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_entry_word'::regclass") == [(True,)]


def test_a_relative_upgrade_counts_from_where_the_database_was(
    service: Service, database: URL, to_head: ToHead
) -> None:
    service.add_revision("tables", TABLES)
    to_head()
    target = service.add_revision("first", GATE)
    service.add_revision("second", "pass")
    (first,) = start(service, target="+1")
    wait_for(database, AT_THE_GATE)
    (second,) = start(service, target="+1")
    wait_for(database, WAITING_FOR_THE_LOCK)
    open_gate(database)
    end(first)
    _, stderr = second.communicate(timeout=60)
    assert second.returncode == LockedError.exit_status
    assert "Traceback" not in stderr
    assert "from 0002 A revision of a test. (20300101_0002_tables.py) to " in stderr
    assert stderr.endswith("\nalembic current\n")
    assert revision(database) == target
