"""Starters that end in the middle: killed, interrupted, or left without a server. The next run must put it right."""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from textwrap import indent
from typing import Any
from uuid import uuid4

import asyncpg  # type: ignore[import-untyped]
import pytest
from sqlalchemy import URL

import blocking_statement
from blocking_statement import AT_THE_GATE, WAITING_FOR_THE_LOCK, open_gate, wait_for
from safe_migrations.dev.cluster import throw_away_cluster
from safe_migrations.errors import INTERRUPTED as INTERRUPTED_MESSAGE
from safe_migrations.errors import ConnectionFailedError
from safe_migrations.postgres.connection import run_async
from safe_migrations.postgres.creation import create_database, drop_database
from safe_migrations.postgres.database import client_environment
from safe_migrations.postgres.programs import find_programs
from support import Process, Render, Service, ToHead, as_text, at, bare_environment, fetch

PROGRAMS = find_programs(18)

# The state before what is killed: enough rows that a statement on all of them takes from 10 to 100 ms …
TABLES = """
op.execute("CREATE TABLE applied (revision text NOT NULL)")
op.execute("CREATE TABLE gate ()")
op.execute("CREATE TABLE entry (id bigint PRIMARY KEY, number bigint NOT NULL, word text NOT NULL)")
op.execute("INSERT INTO entry SELECT n, n, md5(n::text) FROM generate_series(1, 10000) n")
op.execute("CREATE INDEX ix_entry_number ON entry (number)")
op.execute("CREATE INDEX ix_entry_old ON entry (word, id)")
"""
FEW_ROWS = TABLES.replace("10000", "100")
# … and what is killed. Whatever is applied twice, or half, can be told from the schema or from the rows.
HISTORY = {
    "column": 'op.add_column("entry", sa.Column("note", sa.Text()))\nop.execute("CREATE TABLE other (id int)")',
    "data": "op.execute(\"INSERT INTO applied VALUES ('data')\")\n"
    'op.execute("UPDATE entry SET number = number + 1 WHERE id % 5 = 0")',
    "create": 'op.create_index_concurrently("ix_entry_word", "entry", ["word"])',
    "unique": 'op.create_index_concurrently("uq_entry_word", "entry", ["word", "number"], unique=True)',
    "slow": "op.execute(\"INSERT INTO applied VALUES ('slow')\")\n"
    'op.execute("ALTER TABLE other ADD COLUMN slow int")\nop.execute("SELECT pg_sleep(0.1)")',
    "rebuild": 'op.rebuild_index_concurrently("ix_entry_number")',
    "drop": 'op.drop_index_concurrently("ix_entry_old")',
    "constraint": "op.execute(\"INSERT INTO applied VALUES ('constraint')\")\n"
    'op.execute("ALTER TABLE entry ADD CONSTRAINT ck_entry_number CHECK (number > 0)")\n'
    'op.execute("UPDATE entry SET note = word WHERE id % 7 = 0")',
    "steps": """
if op.step("table"):
    op.execute("INSERT INTO applied VALUES ('first step')")
    op.execute("CREATE TABLE stepped AS SELECT * FROM entry")
if op.step("index"):
    op.create_index_concurrently("ix_stepped_word", "stepped", ["word"])
if op.step("rows"):
    op.execute("INSERT INTO applied VALUES ('third step')")
    op.execute("UPDATE stepped SET number = number + 1")
""",
}
ROWS_OF_ALL = "SELECT array_agg(revision ORDER BY revision) FROM applied", "SELECT sum(number), count(note) FROM entry"
INVALID = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"

# Somebody's statement that lasts, after two that leave traces.
TRACES = ("op.execute(\"INSERT INTO applied VALUES ('gate')\")", 'op.execute("CREATE TABLE made ()")')
GATE = "\n".join([*TRACES, blocking_statement.GATE])
# Likewise, but the COMMIT of the revision lasts.
GATE_AT_COMMIT = '''
op.execute("""CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN WHILE NOT EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.02); END LOOP; RETURN NULL; END $$""")
op.execute("""CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON applied DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION wait_at_gate()""")
op.execute("INSERT INTO applied VALUES ('commit')")
op.execute("SET LOCAL client_connection_check_interval = 0")
'''
STEP_AT_COMMIT = f"""
if op.step("first"):{indent(GATE_AT_COMMIT, "    ")}
if op.step("second"):
    op.add_column("entry", sa.Column("second", sa.Text()))
"""
COMMITTING = """
    SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE 'COMMIT%'
      AND wait_event = 'PgSleep'
"""
BLOCK = """
with op.get_context().autocommit_block():
    op.execute("DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.02); END LOOP; END $$")
"""
LOCKED = 'op.add_column("entry", sa.Column("locked", sa.Text()))'
WAITS_FOR_SOMEBODY = """
    SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'virtualxid'
"""
# A snapshot, for whose end each concurrent build and rebuild of an index waits half-way.
SOMEBODY = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1"
# A drop waits half-way for a transaction that has used the table since the drop has begun, here behind a VACUUM's lock.
LIKE_VACUUM, LATER = "LOCK TABLE entry IN SHARE UPDATE EXCLUSIVE MODE", "DELETE FROM entry WHERE id = 1"
LOCK_WAITS = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'entry'::regclass"
NO_LOCK_WAITS = f"SELECT 1 WHERE NOT EXISTS ({LOCK_WAITS})"
SESSIONS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
TERMINATE = SESSIONS.replace("SELECT pid", "SELECT pg_terminate_backend(pid)")
OTHERS_THAN_SOMEBODY = f"{SESSIONS} AND application_name <> 'somebody'"
INTERRUPTED = (130, [INTERRUPTED_MESSAGE])
UPGRADE = ("alembic", "upgrade", "head")


@contextmanager
def session(database: URL, statements: str) -> Iterator[None]:
    """A session of somebody else, in whose transaction these statements have run."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(as_text(database), server_settings={"application_name": "somebody"}))
        try:
            runner.run(connection.execute(f"BEGIN; {statements}"))
            yield
        finally:
            with suppress(OSError, asyncpg.PostgresError):  # the server may be gone
                runner.run(connection.close())


def kill(process: Process) -> None:
    """Kill a starter, as the kernel does when memory is short."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def interrupt(process: Process) -> tuple[int, list[str]]:
    """Press Ctrl-C, and return the exit status and what is said besides the log."""
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    return process.returncode, said(stderr)


def said(stderr: str) -> list[str]:
    """What is said to a person, besides the log."""
    return [line for line in stderr.splitlines() if not line.startswith(("INFO ", "WARNI"))]


def outcome(database: URL) -> tuple[Any, ...]:
    """Everything that a history leaves: the schema, and what its data revisions have written."""
    environment = bare_environment(**client_environment(database))
    dump = subprocess.run(
        [PROGRAMS / "pg_dump", "--schema-only"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    schema = [line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]
    return (schema, fetch(database, INVALID), *(fetch(database, query) for query in ROWS_OF_ALL))


@pytest.fixture
def prepared(service: Service, to_head: ToHead) -> Service:
    """A service whose database has the tables, with few rows."""
    service.add_revision("tables", FEW_ROWS)
    to_head()
    return service


@pytest.fixture
def copies(service: Service, server: URL, database: URL) -> Iterator[Callable[[], URL]]:
    """Databases in the state before the history of the kills, and the service configured for the last one."""
    service.add_revision("tables", TABLES)
    service.succeed(*UPGRADE)
    for slug, body in HISTORY.items():
        service.add_revision(slug, body)
    wait_for(database, SESSIONS, count=0)
    assert database.database is not None
    names: list[str] = []

    def copy() -> URL:
        for name in names:
            run_async(drop_database(at(server), name))
        names[:] = [f"copy_{uuid4().hex}"]
        run_async(create_database(at(server), names[0], template=str(database.database)))
        service.configure(server.set(database=names[0]))
        return server.set(database=names[0])

    yield copy
    for name in names:
        run_async(drop_database(at(server), name))


def test_a_run_after_a_kill_ends_as_a_clean_run(
    service: Service,
    copies: Callable[[], URL],
    thorough: bool,
    random: Random,
    record_property: Callable[[str, object], None],
) -> None:
    database = copies()
    process = service.start(*UPGRADE)
    wait_for(database, SESSIONS)
    begun = time.monotonic()
    _, stderr = process.communicate(timeout=60)
    duration = time.monotonic() - begun
    assert process.returncode == 0, stderr
    clean = outcome(database)
    assert clean[1:3] == ([], [(["constraint", "data", "first step", "slow", "third step"],)])

    rounds = 100 if thorough else 2
    places: dict[str, int] = {}
    part = random.random()
    for number in range(rounds):
        database = copies()
        process = service.start(*UPGRADE)
        wait_for(database, SESSIONS)
        part = (part + 0.618) % 1  # the golden ratio: any number of rounds is spread over the whole run
        delay = duration * part
        time.sleep(delay)
        if process.poll() is None:
            kill(process)
        else:
            duration *= 0.9  # a run is faster now than the first one was
        if number % 2:  # the server fails as well, as a machine with both does, in the middle of its statement
            fetch(database, TERMINATE)
            wait_for(database, SESSIONS, count=0)
        ((reached,),) = fetch(database, "SELECT version_num FROM alembic_version")
        places[reached] = places.get(reached, 0) + 1
        where = f"round {number}, killed after {delay:.3f} s at {reached}: "
        again = service.run(*UPGRADE)
        assert again.returncode == 0, where + again.stderr
        assert outcome(database) == clean, where + again.stderr
    record_property("killed at", places)
    print(f"{rounds} kills in {duration:.2f} s of a run; the database was at {places}")


def test_a_run_waits_for_the_statement_that_a_killed_one_has_begun(prepared: Service, database: URL) -> None:
    """The server finishes it, and meanwhile the lock of the killed run's other connection is free."""
    # Without this the server would notice within a second that nobody waits for its answer.
    prepared.add_revision("gate", 'op.execute("SET LOCAL client_connection_check_interval = 0")\n' + GATE)
    process = prepared.start(*UPGRADE)
    killed = wait_for(database, AT_THE_GATE)
    kill(process)
    process = prepared.start(*UPGRADE)
    waiting = wait_for(database, WAITING_FOR_THE_LOCK)
    assert fetch(database, AT_THE_GATE) == [(killed[0],)]
    assert waiting != killed
    open_gate(database)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert f"another migration: pid {killed[0]}, application alembic" in stderr
    assert fetch(database, "SELECT revision FROM applied") == [("gate",)]


@pytest.mark.parametrize("body", [GATE_AT_COMMIT, STEP_AT_COMMIT], ids=["revision", "step"])
def test_a_run_does_not_repeat_what_a_killed_one_was_about_to_commit(
    prepared: Service, database: URL, body: str
) -> None:
    """It must look at the database when the killed one's last statement has ended, not before."""
    prepared.add_revision("commit", body)
    head = prepared.add_revision("next", 'op.add_column("entry", sa.Column("note", sa.Text()))')
    process = prepared.start(*UPGRADE)
    wait_for(database, COMMITTING)
    kill(process)
    process = prepared.start(*UPGRADE)
    wait_for(database, WAITING_FOR_THE_LOCK)
    open_gate(database)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert fetch(database, "SELECT version_num FROM alembic_version") == [(head,)]
    assert fetch(database, "SELECT revision FROM applied") == [("commit",)]


def test_a_run_that_loses_one_lock_is_kept_alone_by_the_other(prepared: Service, database: URL) -> None:
    head = prepared.add_revision("gate", GATE)
    process = prepared.start(*UPGRADE)
    (migrating,) = wait_for(database, AT_THE_GATE)
    fetch(database, f"{TERMINATE} AND pid <> {migrating}")
    time.sleep(1.5)  # until the run, which looks every half second who is in its way, has found out
    other = prepared.start(*UPGRADE)
    wait_for(database, WAITING_FOR_THE_LOCK)
    open_gate(database)
    for starter in (process, other):
        _, stderr = starter.communicate(timeout=60)
        assert starter.returncode == 0, stderr
        assert said(stderr) == []
    assert fetch(database, "SELECT version_num FROM alembic_version") == [(head,)]
    assert fetch(database, "SELECT revision FROM applied") == [("gate",)]


def test_the_server_notices_a_killed_client_while_it_works_for_it(prepared: Service, database: URL) -> None:
    """Or an abandoned statement of hours would hold its locks to its end."""
    prepared.add_revision("gate", GATE)
    process = prepared.start(*UPGRADE)
    wait_for(database, AT_THE_GATE)
    kill(process)
    wait_for(database, AT_THE_GATE, count=0)  # though nobody has opened the gate


def test_a_run_puts_right_what_a_kill_has_left_of_an_index(prepared: Service, database: URL) -> None:
    left: list[Any] = []
    for slug in ("create", "rebuild", "drop"):
        prepared.add_revision(slug, HISTORY[slug])
        with ExitStack() as sessions:
            if slug == "drop":
                with session(database, LIKE_VACUUM):
                    process = prepared.start(*UPGRADE)
                    wait_for(database, LOCK_WAITS)
                    sessions.enter_context(session(database, LATER))
            else:
                sessions.enter_context(session(database, SOMEBODY))
                process = prepared.start(*UPGRADE)
            wait_for(database, WAITS_FOR_SOMEBODY)
            kill(process)
            wait_for(database, OTHERS_THAN_SOMEBODY, count=0)
        left += fetch(database, INVALID)
        prepared.succeed(*UPGRADE)
        assert fetch(database, INVALID) == []
    assert left == [("ix_entry_word",), ("ix_entry_number_ccnew",), ("ix_entry_old",)]
    indexes = fetch(database, "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'entry'::regclass")
    assert sorted(indexes) == [("entry_pkey",), ("ix_entry_number",), ("ix_entry_word",)]


@pytest.mark.parametrize(
    ("body", "somebody", "reached"),
    [
        (GATE, None, {AT_THE_GATE: 1}),
        (BLOCK, None, {AT_THE_GATE: 1}),
        (HISTORY["create"], SOMEBODY, {WAITS_FOR_SOMEBODY: 1}),
        (LOCKED, "LOCK TABLE entry", {LOCK_WAITS: 1, NO_LOCK_WAITS: 1}),
    ],
    ids=["statement", "autocommit block", "concurrent index", "pause between two tries"],
)
def test_an_interrupt_is_one_sentence_and_the_next_run_goes_on(
    prepared: Service, database: URL, body: str, somebody: str | None, reached: dict[str, int]
) -> None:
    head = prepared.add_revision("interrupted", body)
    with session(database, somebody or "SELECT 1"):
        process = prepared.start(*UPGRADE)
        for query, count in reached.items():
            wait_for(database, query, count=count)
        assert interrupt(process) == INTERRUPTED
    open_gate(database)
    prepared.succeed(*UPGRADE)
    assert fetch(database, "SELECT version_num FROM alembic_version") == [(head,)]
    assert len(fetch(database, "SELECT revision FROM applied")) == body.count("applied")
    assert fetch(database, INVALID) == []


UNSHARE = ("unshare", "--pid", "--fork", "--kill-child")


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0,
    reason="this user can't make a process the first one of a namespace",
)
def test_the_first_process_of_a_container_ends_by_sigterm(prepared: Service, database: URL) -> None:
    prepared.add_revision("gate", GATE)
    process = prepared.start(*UNSHARE, *UPGRADE)
    wait_for(database, AT_THE_GATE)
    (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(first), signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, said(stderr)) == INTERRUPTED


IN_A_LOOP = """
import asyncio
from alembic import command
from alembic.config import Config

async def main():
    command.upgrade(Config("alembic.ini"), "head")

asyncio.run(main())
"""


def test_an_interrupt_in_a_running_event_loop_takes_effect_at_once(prepared: Service, database: URL) -> None:
    prepared.add_revision("gate", GATE)
    process = prepared.start("python", "-c", IN_A_LOOP)
    wait_for(database, AT_THE_GATE)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in stderr
    wait_for(database, AT_THE_GATE, count=0)  # though nobody has opened the gate


def test_an_interrupt_of_a_waiting_run_leaves_the_other_one_alone(prepared: Service, database: URL) -> None:
    prepared.add_revision("gate", GATE)
    running = prepared.start(*UPGRADE)
    wait_for(database, AT_THE_GATE)
    waiting = prepared.start(*UPGRADE)
    wait_for(database, WAITING_FOR_THE_LOCK)
    assert interrupt(waiting) == INTERRUPTED
    open_gate(database)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 0, stderr
    assert fetch(database, "SELECT revision FROM applied") == [("gate",)]


@pytest.mark.thorough("every second kill here ends the sessions on the server as well")
def test_a_server_that_stops_is_one_sentence_and_the_next_run_goes_on(render: Render) -> None:
    service = render()
    service.add_revision("tables", FEW_ROWS)
    with throw_away_cluster(PROGRAMS) as cluster:
        database = cluster.url()
        service.configure(database)
        service.succeed(*UPGRADE)
        sentences = []
        for body, reached, how in (  # https://www.postgresql.org/docs/current/server-shutdown.html
            (GATE, AT_THE_GATE, signal.SIGQUIT),
            (HISTORY["create"], WAITS_FOR_SOMEBODY, signal.SIGQUIT),
            (BLOCK, AT_THE_GATE, signal.SIGINT),
        ):
            fetch(database, "DELETE FROM gate")
            head = service.add_revision("stopped", body)
            with session(database, SOMEBODY):
                process = service.start(*UPGRADE)
                wait_for(database, reached)
                fetch(database, "CHECKPOINT")  # a throw-away server writes what it has committed later
                ((numbers,),) = fetch(database, "SELECT pg_read_file('postmaster.pid')")
                os.kill(int(numbers.split()[0]), how)
                _, stderr = process.communicate(timeout=60)
            while cluster.is_running():
                time.sleep(0.05)
            assert process.returncode == ConnectionFailedError.exit_status, stderr
            sentences += said(stderr)
            cluster.start(database.port)
            open_gate(database)
            service.succeed(*UPGRADE)
            assert fetch(database, "SELECT version_num FROM alembic_version") == [(head,)]
            assert fetch(database, "SELECT revision FROM applied") == [("gate",)]
            assert fetch(database, INVALID) == []
    for file, sentence in zip(service.revisions()[-3:], sentences, strict=True):
        assert file in sentence
        assert ("may be committed" in sentence) == ("autocommit_block" in (service.versions / file).read_text())
