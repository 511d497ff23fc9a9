"""Migrations of a table that others read and write: nobody waits for long, and nothing is left half-done."""

import asyncio
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import URL, text

from blocking_statement import AT_THE_GATE, GATE, open_gate, wait_for
from lock_holder import WAITING_FOR_A_LOCK, connect, end, holding, said, wait_for_a_try_that_fails
from safe_migrations.errors import LockedError, RevisionError
from support import Service, ToHead, fetch, tables
from traffic import LONGEST_STALL, traffic

HELD = 4.5  # seconds for which a transaction keeps a lock; well above LONGEST_STALL
CODE = 2 * [text("SELECT word FROM entry WHERE id = 7"), text("UPDATE entry SET word = word WHERE id = 8")]

TABLES = """
op.execute("CREATE TABLE applied (revision text NOT NULL)")
op.execute("CREATE TABLE gate ()")
op.execute("CREATE TABLE other (id int)")
op.execute("CREATE TABLE entry (id bigint PRIMARY KEY, word text NOT NULL)")
op.execute("INSERT INTO entry SELECT n, md5(n::text) FROM generate_series(1, 100) n")
"""
DATA = "op.execute(\"INSERT INTO applied VALUES ('{name}')\")"
COLUMN = 'op.add_column("entry", sa.Column("{name}", sa.Text()))'
WAITING_FOR_ANY_LOCK = """
    SELECT l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE NOT l.granted AND a.datname = current_database()
"""
UPGRADE = ("alembic", "upgrade", "head")


def applied(database: URL) -> list[str]:
    return [row.revision for row in fetch(database, "SELECT revision FROM applied")]


def columns(database: URL) -> list[str]:
    query = "SELECT attname FROM pg_attribute WHERE attrelid = 'entry'::regclass AND attnum > 2 AND NOT attisdropped"
    return [row.attname for row in fetch(database, query)]


def revision(database: URL) -> str:
    ((number,),) = fetch(database, "SELECT version_num FROM alembic_version")
    return str(number)


@pytest.fixture
def prepared(service: Service, to_head: ToHead) -> Service:
    """A service whose database has the tables."""
    service.add_revision("tables", TABLES)
    to_head()
    return service


def test_nobody_waits_for_long_while_a_migration_waits_for_a_lock(prepared: Service, database: URL) -> None:
    prepared.add_revision("column", COLUMN.format(name="added"))
    with traffic(database, CODE) as running:
        with holding(database, "SELECT id FROM entry WHERE word = 'hush''hush' OR word = $$hush'hush$$") as pid:
            process = prepared.start(*UPGRADE)
            wait_for(database, WAITING_FOR_A_LOCK)
            time.sleep(HELD)
        stderr = end(process)
    assert max(running.longest.values()) < LONGEST_STALL
    assert running.errors == []
    assert columns(database) == ["added"]
    (named, *_) = [line for line in stderr.splitlines() if "did not get a lock" in line]
    who = rf"pid {pid} \(user postgres, application report at 127.0.0.1, idle in transaction for [\d.]+ s\)"
    assert re.search(f"blocked by .*{who}: ", named), named
    assert named.endswith("BEGIN; SELECT id FROM entry WHERE word = '…' OR word = '…'")
    assert "hush" not in stderr


@pytest.mark.thorough("it looks at stock Alembic, and the test before it at ours")
def test_on_stock_alembic_everybody_waits_as_long_as_the_migration(prepared: Service, database: URL) -> None:
    """The trap is real."""
    prepared.use_stock_environment()
    prepared.add_revision("column", COLUMN.format(name="added"))
    with traffic(database, CODE) as running:
        with holding(database):
            process = prepared.start(*UPGRADE)
            wait_for(database, WAITING_FOR_A_LOCK)
            time.sleep(LONGEST_STALL + 1)
        end(process)
    assert max(running.longest.values()) > LONGEST_STALL


def test_giving_up_names_who_is_in_the_way_and_what_was_applied(prepared: Service, database: URL) -> None:
    before = prepared.add_revision("data", DATA.format(name="data"))
    head = prepared.add_revision("column", DATA.format(name="column") + "\n" + COLUMN.format(name="added"))
    with holding(database) as pid:
        process = prepared.start(*UPGRADE, MIGRATION_RETRY_WINDOW="2s", MIGRATION_LOCK_TIMEOUT="300ms")
        sentence = said(end(process, status=LockedError.exit_status))
        assert sentence.startswith("alembic/versions/20300101_0004_column.py did not get its locks within ")
        assert f"blocked by pid {pid} (user postgres, application report at 127.0.0.1, idle in transaction" in sentence
        assert "(alembic/versions/20300101_0003_data.py)" in sentence
        assert sentence.endswith(f"\nsafe-migrations locks --terminate {pid}")
        assert (revision(database), applied(database), columns(database)) == (before, ["data"], [])
    prepared.succeed(*UPGRADE)
    assert (revision(database), applied(database), columns(database)) == (head, ["data", "column"], ["added"])


def test_a_deadlock_with_somebody_is_tried_again(prepared: Service, database: URL) -> None:
    body = f"""
op.execute("SET LOCAL deadlock_timeout = '10ms'")
op.execute("LOCK TABLE other")
{DATA.format(name="data")}
{GATE}
{COLUMN.format(name="added")}
"""
    prepared.add_revision("both", body)

    async def lock_the_other_way_round() -> None:
        connection = await connect(database, "report")
        await connection.execute(
            "BEGIN; SET LOCAL deadlock_timeout = '1min'; LOCK TABLE entry; LOCK TABLE other; COMMIT"
        )
        await connection.close()

    process = prepared.start(*UPGRADE)
    wait_for(database, AT_THE_GATE)
    with ThreadPoolExecutor(max_workers=1) as executor:
        locked = executor.submit(asyncio.run, lock_the_other_way_round())
        wait_for(database, "SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'other'::regclass")
        open_gate(database)
        locked.result()
    assert "alembic/versions/20300101_0003_both.py met a deadlock (try 1) and was rolled back" in end(process)
    assert (applied(database), columns(database)) == (["data"], ["added"])


def test_a_relative_target_stays_where_it_is_while_it_is_tried_again(prepared: Service, database: URL) -> None:
    prepared.add_revision("first", DATA.format(name="first"))
    target = prepared.add_revision("second", DATA.format(name="second") + "\n" + COLUMN.format(name="second"))
    prepared.add_revision("third", DATA.format(name="third"))
    prepared.add_revision("fourth", DATA.format(name="fourth"))
    with holding(database):
        process = prepared.start("alembic", "upgrade", "+2")
        wait_for_a_try_that_fails(database)
        assert applied(database) == ["first"]
    assert "did not get a lock" in end(process)
    assert (revision(database), applied(database)) == (target, ["first", "second"])


def test_a_failing_revision_leaves_no_trace_and_those_before_it_stay(prepared: Service, database: URL) -> None:
    good = prepared.add_revision("good", DATA.format(name="good"))
    bad = 'op.execute("CREATE TABLE half ()")\n' + DATA.format(name="bad") + '\nop.execute("SELECT 1 / 0")'
    prepared.add_revision("bad", bad)
    head = prepared.add_revision("later", DATA.format(name="later"))
    file = prepared.versions / "20300101_0004_bad.py"
    (line,) = [number for number, text in enumerate(file.read_text().splitlines(), 1) if "1 / 0" in text]

    sentence = said(end(prepared.start(*UPGRADE), status=RevisionError.exit_status))
    assert sentence.startswith(f"alembic/versions/{file.name}:{line} failed and was rolled back: division by zero.")
    assert "(alembic/versions/20300101_0003_good.py)" in sentence
    assert (revision(database), applied(database)) == (good, ["good"])
    assert "half" not in tables(database)

    file.write_text(file.read_text().replace("SELECT 1 / 0", "SELECT 1"))
    prepared.succeed(*UPGRADE)
    assert (revision(database), applied(database)) == (head, ["good", "bad", "later"])


def test_a_downgrade_lets_others_pass_while_it_waits_for_a_lock(prepared: Service, database: URL) -> None:
    """Its relative target stays where it is as well."""
    for name in ("zero", "first", "second"):
        prepared.add_revision(name, COLUMN.format(name=name), f'op.drop_column("entry", "{name}")')
    prepared.succeed(*UPGRADE)
    with traffic(database, CODE) as running:
        with holding(database):
            process = prepared.start("alembic", "downgrade", "-2")
            wait_for_a_try_that_fails(database)
            assert columns(database) == ["zero", "first", "second"]
        assert "did not get a lock" in end(process)
    assert max(running.longest.values()) < LONGEST_STALL
    assert running.errors == []
    assert (revision(database), columns(database)) == ("0003_zero", ["zero"])


def test_a_revision_that_has_left_its_transaction_is_not_tried_again(prepared: Service, database: URL) -> None:
    """What it did in an autocommit block can't be rolled back, and would be done once more by each try."""
    prepared.add_revision(
        "block",
        """
        with op.get_context().autocommit_block():
            op.execute("INSERT INTO applied VALUES ('block')")
            op.execute("ALTER TABLE entry ADD COLUMN added text")
        """,
    )
    with holding(database):
        sentence = said(end(prepared.start(*UPGRADE), status=RevisionError.exit_status))
    assert "ended its transaction" in sentence
    assert "canceling statement due to lock timeout" in sentence
    assert applied(database) == ["block"]


def test_a_version_table_that_somebody_locks_is_waited_for(service: Service, database: URL) -> None:
    process = None
    with holding(database, "CREATE TABLE alembic_version (version_num varchar(32) NOT NULL)"):
        process = service.start(*UPGRADE)
        wait_for(database, WAITING_FOR_ANY_LOCK)
        wait_for(database, WAITING_FOR_ANY_LOCK, count=0)
    assert "did not get a lock (try 1)" in end(process)
    assert "item" in tables(database)


def test_each_revision_that_takes_long_is_told(prepared: Service) -> None:
    for name in ("first", "second"):
        prepared.add_revision(name, 'op.execute("SELECT pg_sleep(2)")')
    stderr = end(prepared.start(*UPGRADE))
    for file in prepared.revisions()[-2:]:
        assert f"alembic/versions/{file} has been running for " in stderr
