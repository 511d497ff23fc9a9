"""Backfills: what is complete, what is refused, and that each row is changed once, whoever works on it and dies."""

import asyncio
import io
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import URL, Connection, MetaData, text

from blocking_statement import wait_for
from safe_migrations.backfill import queue
from safe_migrations.backfill import running as backfill
from safe_migrations.backfill.definition import backfill_names, is_complete, load_backfill, refuse_incomplete
from safe_migrations.backfill.progress import Progress
from safe_migrations.backfill.queue import Batches
from safe_migrations.backfill.replication import Lag
from safe_migrations.backfill.running import Done, Pace, run_backfill
from safe_migrations.dev.cluster import Cluster, throw_away_cluster
from safe_migrations.errors import BackfillError, ConnectionFailedError, LockedError, MigrationError
from safe_migrations.postgres import timeouts
from safe_migrations.postgres.catalog import own_relations
from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.postgres.database import client_environment
from safe_migrations.postgres.programs import find_programs
from support import NewRole, Render, at, fetch, on

FAST = Pace(nice_ratio=0)
RUN = "\nsafe-migrations backfill item_sku"  # the last line of a message
EMPTY_COLUMN = """
import sqlalchemy as sa
from safe_migrations.backfills import Backfill

item = sa.table("item", sa.column("id"), sa.column("sku"))
backfill = Backfill(
    table=item, key=("id",), where=item.c.sku.is_(None), values={"sku": sa.func.concat("sku-", item.c.id)}, batch_size=7
)
"""
# Each row once, or it shows.
INCREMENT = (
    EMPTY_COLUMN.replace("where=item.c.sku.is_(None), ", "")
    .replace('"sku": sa.func.concat("sku-", item.c.id)', '"price": item.c.price + 1')
    .replace('sa.column("sku")', 'sa.column("price")')
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the definitions, from which the working directory is two levels up."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "alembic" / "backfills"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def item(database: URL) -> URL:
    """A database with a table of 100 rows, in which one column is to be filled."""
    fetch(database, "CREATE TABLE item (id bigint PRIMARY KEY, sku text, price int NOT NULL DEFAULT 0)")
    fetch(database, "INSERT INTO item SELECT generate_series(1, 100)")
    return database


def rows(url: URL, statement: str) -> list[Any]:
    """The rows of a statement."""
    return list(fetch(url, statement))


def write(folder: Path, text: str, name: str = "item_sku") -> str:
    """Write a definition."""
    folder.joinpath(f"{name}.py").write_text(text)
    return name


def run(database: URL, folder: Path, name: str = "item_sku", pace: Pace = FAST) -> Done:
    """Run a backfill."""
    return run_async(run_backfill(at(database), folder, name, load_backfill(folder, name), pace))


def refusal(function: Callable[..., Any], *arguments: Any, kind: type[MigrationError] = BackfillError) -> str:
    """The message of the error of this kind that a call ends with."""
    with pytest.raises(kind) as failure:
        function(*arguments)
    assert type(failure.value) is kind or kind is BackfillError
    return str(failure.value)


def test_empty_columns_are_filled_batch_by_batch(item: URL, folder: Path) -> None:
    write(folder, EMPTY_COLUMN)
    fetch(item, "UPDATE item SET sku = 'own' WHERE id % 10 = 0")
    result = run(item, folder)
    assert (result.already_complete, result.rows) == (False, 90)
    assert rows(item, "SELECT count(*), min(sku) FROM item WHERE sku = 'sku-' || id OR sku = 'own'") == [(100, "own")]
    # 90 rows in batches of 7, each in a transaction of its own.
    assert rows(
        item, "SELECT max(count), count(*) FROM (SELECT count(*) FROM item WHERE sku <> 'own' GROUP BY xmin)"
    ) == [(7, 13)]
    again = run(item, folder)
    assert again.already_complete
    assert "item_sku" in str(again)


def test_what_is_written_after_the_end_counts(item: URL, folder: Path) -> None:
    write(folder, EMPTY_COLUMN)
    run(item, folder)
    fetch(item, "INSERT INTO item VALUES (0), (101)")
    assert not on(item, is_complete, load_backfill(folder, "item_sku"), "item_sku")
    assert run(item, folder).rows == 102
    assert rows(item, "SELECT id, sku FROM item WHERE id IN (0, 101)") == [(0, "sku-0"), (101, "sku-101")]


def test_several_workers_and_processes_change_each_row_once(item: URL, folder: Path) -> None:
    write(folder, INCREMENT)

    async def several() -> None:
        definition = load_backfill(folder, "item_sku")
        runs = [run_backfill(at(item), folder, "item_sku", definition, Pace(4, 0)) for _ in range(3)]
        await asyncio.gather(*runs)  # each begins by itself, as a process does

    fetch(item, "INSERT INTO item SELECT generate_series(101, 600)")
    run_async(several())
    assert rows(item, "SELECT price, count(*) FROM item GROUP BY 1") == [(1, 600)]
    assert run(item, folder).already_complete
    assert rows(item, "SELECT rows, finished_at IS NOT NULL FROM safe_migrations.backfill") == [(600, True)]
    assert rows(item, "SELECT FROM safe_migrations.backfill_batch") == []


# Each with values that a session could write in several ways, and whose order is not that of their text.
KEYS = {
    "uuid": "SELECT md5(n::text)::uuid FROM n",
    "text": "SELECT 'Ä,\"''{}\\ ' || n FROM n",
    "bigint": "SELECT n * 92233720368547758 FROM n",
    "numeric": "SELECT n / 7.0 FROM n",
    "double precision": "SELECT n / 9.0::float8 FROM n",
    "timestamptz": "SELECT '2026-10-24 12:34:56.123456Z'::timestamptz + n * interval '30 min' FROM n",
    "date": "SELECT date '2026-01-30' + n FROM n",
    "character(5)": "SELECT n::text FROM n",
    "bytea": "SELECT decode(md5(n::text), 'hex') FROM n",
    "interval": "SELECT n * interval '1 mon -1 day 1 hour' FROM n",
    "integer[]": "SELECT ARRAY[n, -n] FROM n",
    "mood": "SELECT (ARRAY['sad', 'ok', 'great'])[1 + n % 3]::mood FROM n WHERE n <= 3",
}


# In which the end of summer time is.
NUMBERS = [1, 2, 3, 10, 20, 24, 25, 26, 27, 99, 100]


def test_keys_of_any_type(
    database: URL, folder: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    monkeypatch.setattr(queue, "AHEAD", 2)  # so that the place where the plan goes on is stored, too
    fetch(database, "CREATE TYPE mood AS ENUM ('sad', 'ok', 'great')")
    # What each connection of the test and of the backfill finds.
    fetch(
        database,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET DateStyle = ''SQL, DMY''', current_database());"
        "EXECUTE format('ALTER DATABASE %I SET extra_float_digits = 0', current_database());"
        "EXECUTE format('ALTER DATABASE %I SET TimeZone = ''Europe/Berlin''', current_database()); END $$",
    )
    for number, (kind, keys) in enumerate(KEYS.items()):
        with subtests.test(kind):
            name = f"item_{number}"
            fetch(database, f"CREATE TABLE {name} (id {kind} PRIMARY KEY, price int DEFAULT 0)")
            fetch(database, f"WITH n AS (SELECT unnest(ARRAY{NUMBERS}) n) INSERT INTO {name} (id) {keys}")
            definition = INCREMENT.replace("batch_size=7", "batch_size=1").replace('"item"', f'"{name}"')
            run(database, folder, write(folder, definition, name), Pace(2, 0))
            assert rows(database, f"SELECT DISTINCT price FROM {name}") == [(1,)]  # noqa: S608


def test_keys_of_several_columns_and_names_to_quote(database: URL, folder: Path) -> None:
    fetch(database, 'CREATE SCHEMA "S s"')
    fetch(database, 'CREATE TABLE "S s"."T %" ("A %s" text, b int, price int DEFAULT 0, PRIMARY KEY ("A %s", b))')
    fetch(database, """INSERT INTO "S s"."T %" SELECT chr(65 + n % 5), n FROM generate_series(1, 100) n""")
    columns = 'sa.column("A %s"), sa.column("b"), sa.column("price"), schema="S s")'
    definition = INCREMENT.replace('"item", sa.column("id"), sa.column("price"))', f'"T %", {columns}')
    write(folder, definition.replace('("id",)', '("A %s", "b")'))
    run(database, folder, pace=Pace(2, 0))
    assert rows(database, 'SELECT DISTINCT price FROM "S s"."T %"') == [(1,)]


def test_without_where_the_progress_tells(item: URL, folder: Path) -> None:
    definition = load_backfill(folder, write(folder, INCREMENT))
    fetch(item, "TRUNCATE item")
    assert on(item, is_complete, definition, "item_sku")
    fetch(item, "INSERT INTO item SELECT generate_series(1, 10)")
    assert not on(item, is_complete, definition, "item_sku")
    run(item, folder)
    fetch(item, "INSERT INTO item VALUES (11)")
    assert on(item, is_complete, definition, "item_sku")
    assert run(item, folder).already_complete


def test_old_code_that_goes_on_writing(item: URL, folder: Path) -> None:
    """Rows that it adds behind the backfill's back are met in the next pass."""
    write(folder, EMPTY_COLUMN)
    fetch(item, "INSERT INTO item SELECT generate_series(101, 700)")

    async def write_and_run() -> None:
        async def writes() -> None:
            async with connected(at(item), isolation_level="AUTOCOMMIT") as connection:
                for number in range(60):
                    await connection.execute(text("INSERT INTO item VALUES (0 - :n)"), {"n": number})
                    await connection.execute(text("UPDATE item SET price = 1 WHERE id = 11 * :n + 1"), {"n": number})

        definition = load_backfill(folder, "item_sku")
        await asyncio.gather(writes(), run_backfill(at(item), folder, "item_sku", definition, Pace(2, 0)))

    run_async(write_and_run())
    run(item, folder)
    assert rows(item, "SELECT count(*), count(sku), sum(price) FROM item") == [(760, 760, 60)]


@pytest.mark.parametrize("values", ["sa.null()", 'sa.case((item.c.id != 3, "sku"))'], ids=["all", "one"])
def test_values_that_leave_rows_as_they_match_are_told(item: URL, folder: Path, values: str) -> None:
    write(folder, EMPTY_COLUMN.replace('sa.func.concat("sku-", item.c.id)', values))
    message = refusal(run, item, folder)
    assert "alembic/backfills/item_sku.py" in message
    assert message.endswith(RUN)
    assert rows(item, "SELECT count(sku) FROM item WHERE id <= 7") == [(0,)]
    write(folder, EMPTY_COLUMN)
    run(item, folder)
    assert rows(item, "SELECT count(sku) FROM item") == [(100,)]


def test_a_batch_that_fails_is_rolled_back_and_the_others_stay(item: URL, folder: Path) -> None:
    fetch(item, "ALTER TABLE item ADD CONSTRAINT sku_of_item CHECK (sku <> 'sku-50')")
    write(folder, EMPTY_COLUMN)
    message = refusal(run, item, folder)
    assert 'new row for relation "item" violates check constraint "sku_of_item"' in message
    assert "sku-50" not in message, "PostgreSQL's DETAIL has the row"
    assert message.endswith(RUN)
    assert rows(item, "SELECT count(sku) FROM item") == [(49,)]
    fetch(item, "ALTER TABLE item DROP CONSTRAINT sku_of_item")
    assert run(item, folder).rows == 100


def test_a_lock_that_is_not_free_is_waited_for_in_many_tries(
    item: URL, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, INCREMENT)
    monkeypatch.setenv("MIGRATION_LOCK_TIMEOUT", "50ms")

    async def meanwhile(seconds: float) -> None:
        async with connected(at(item)) as somebody:
            await somebody.exec_driver_sql("UPDATE item SET price = price WHERE id = 50")
            definition = load_backfill(folder, "item_sku")
            task = asyncio.create_task(run_backfill(at(item), folder, "item_sku", definition, FAST))
            await asyncio.wait([task], timeout=seconds)
            await somebody.commit()
            await task

    monkeypatch.setenv("MIGRATION_RETRY_WINDOW", "300ms")
    message = refusal(lambda: run_async(meanwhile(20)), kind=LockedError)
    assert all(
        part in message for part in ("item_sku", "(MIGRATION_RETRY_WINDOW; blocked by pid ", "safe-migrations locks")
    )
    assert message.endswith(RUN)
    monkeypatch.setenv("MIGRATION_RETRY_WINDOW", "20s")
    run_async(meanwhile(0.5))
    assert rows(item, "SELECT price, count(*) FROM item GROUP BY 1") == [(1, 100)]


@pytest.mark.parametrize("lock", ["UPDATE item SET sku = sku WHERE id = 50", "LOCK TABLE item"])
def test_who_is_waited_for_is_said_once(
    item: URL, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lock: str
) -> None:
    """At the first look at the table as well as in a batch; and no progress of nothing hides it."""
    write(folder, EMPTY_COLUMN)
    monkeypatch.setenv("MIGRATION_LOCK_TIMEOUT", "100ms")
    monkeypatch.setattr(timeouts, "REPORT", 0.0)

    async def meanwhile() -> int:
        async with connected(at(item)) as somebody:
            pid = int(await somebody.scalar(text("SELECT pg_backend_pid()")) or 0)
            await somebody.exec_driver_sql(lock)
            definition = load_backfill(folder, "item_sku")
            task = asyncio.create_task(run_backfill(at(item), folder, "item_sku", definition, FAST))
            while f"pid {pid} " not in "".join(output):
                await asyncio.sleep(0.02)
                output.append(capsys.readouterr().err)
            await asyncio.sleep(0.3)
            output.append(capsys.readouterr().err)
            await somebody.commit()
            await task
            return pid

    output: list[str] = []
    pid = run_async(asyncio.wait_for(meanwhile(), 20))
    lines = "".join(output).splitlines()
    waits = [line for line in lines if "waiting for a lock" in line]
    assert f"blocked by pid {pid} " in waits[-1]
    assert not [line for line in lines[lines.index(waits[0]) :] if "rows/s" in line]


def test_a_worker_that_waits_does_not_stop_the_others(item: URL, folder: Path) -> None:
    write(folder, INCREMENT)

    async def meanwhile() -> None:
        async with connected(at(item)) as somebody:
            await somebody.exec_driver_sql("UPDATE item SET price = price WHERE id = 50")
            definition = load_backfill(folder, "item_sku")
            task = asyncio.create_task(run_backfill(at(item), folder, "item_sku", definition, Pace(2, 0)))
            others = "SELECT 1 FROM item WHERE price = 1 HAVING count(*) = 93"
            await asyncio.to_thread(wait_for, item, others)
            await asyncio.sleep(0.3)  # in which the other worker looks whether that was all
            finished.extend(await asyncio.to_thread(fetch, item, "SELECT finished_at FROM safe_migrations.backfill"))
            await somebody.commit()
            await task

    finished: list[Any] = []
    run_async(meanwhile())
    assert finished == [(None,)]
    assert rows(item, "SELECT price, count(*) FROM item GROUP BY 1") == [(1, 100)]


def test_it_pauses_for_a_multiple_of_what_a_batch_took(item: URL, folder: Path) -> None:
    fetch(
        item,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.05); RETURN NULL; END'",
    )
    fetch(item, "CREATE TRIGGER slow AFTER UPDATE ON item EXECUTE FUNCTION slow()")
    write(folder, INCREMENT.replace("batch_size=7", "batch_size=25"))
    assert run(item, folder, pace=Pace(nice_ratio=4)).seconds > 4 * 0.05 * (1 + 4)


def test_a_connection_that_is_lost(item: URL, folder: Path) -> None:
    write(folder, INCREMENT)

    async def meanwhile() -> None:
        async with connected(at(item)) as somebody:
            await somebody.exec_driver_sql("UPDATE item SET price = price WHERE id = 50")
            definition = load_backfill(folder, "item_sku")
            task = asyncio.create_task(run_backfill(at(item), folder, "item_sku", definition, Pace(2, 0)))
            waits = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            (pid,) = await asyncio.to_thread(wait_for, item, waits)
            await asyncio.to_thread(fetch, item, "SELECT pg_terminate_backend(:pid)", pid=pid)
            await task

    assert f"{item.host}:{item.port}" in refusal(lambda: run_async(meanwhile()), kind=ConnectionFailedError)
    run(item, folder)
    assert rows(item, "SELECT price, count(*) FROM item GROUP BY 1") == [(1, 100)]


def test_a_user_who_may_not(item: URL, folder: Path, new_role: NewRole) -> None:
    write(folder, INCREMENT)
    role = new_role("LOGIN", "secret")
    fetch(item, f'GRANT SELECT ON item TO "{role}"')
    message = refusal(run, item.set(username=role, password="secret"), folder, kind=MigrationError)
    assert message.splitlines()[1:] == [f"CREATE SCHEMA safe_migrations AUTHORIZATION {role};"]


def test_a_contract_revision_needs_its_backfill(item: URL, folder: Path, tmp_path: Path) -> None:
    write(folder, EMPTY_COLUMN)
    write(folder, INCREMENT, "item_price")
    path = str(tmp_path / "alembic" / "versions" / "20300101_0003_sku_not_null.py")

    def require(names: Any) -> Callable[[Connection], None]:
        script: Any = SimpleNamespace(module=SimpleNamespace(requires_backfill=names), path=path)
        return lambda connection: refuse_incomplete(connection, script, folder)

    message = refusal(on, item, require("item_sku"))
    assert message.startswith("alembic/versions/20300101_0003_sku_not_null.py needs the backfill item_sku, ")
    assert message.endswith(RUN)
    assert refusal(on, item, require(("item_sku", "item_price"))).splitlines()[1:] == [
        "safe-migrations backfill item_sku",
        "safe-migrations backfill item_price",
    ]
    run(item, folder)
    on(item, require("item_sku"))
    message = refusal(on, item, require(("item_sku", "item_price")))
    assert message.splitlines()[1:] == ["safe-migrations backfill item_price"]
    on(item, require(None))  # needs none
    fetch(item, "DROP TABLE item")
    message = refusal(on, item, require("item_sku"))
    assert all(part in message for part in ('relation "item" does not exist', "backfill item_sku"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("import sqlalchemy as sa", "import nothing"), ":2 can't be used (ModuleNotFoundError: No module named"),
        (('sa.table("item"', 'sa.table("item" ('), ":5 can't be used (SyntaxError: "),
        (("backfill = ", "something = "), "py defines no backfill"),
        (('{"sku"', '{"sky"'), ":6 can't be used (sa.table has no sa.column for sky)"),
        (('{"sku"', '{"id"'), ":6 can't be used (values changes the key (id)"),
        (('("id",)', '("id")'), ":6 can't be used (a key is a tuple of names"),
    ],
)
def test_a_definition_that_can_not_be_used(folder: Path, change: tuple[str, str], sentence: str) -> None:
    assert change[0] in EMPTY_COLUMN
    write(folder, EMPTY_COLUMN.replace(*change))
    assert f"alembic/backfills/item_sku.{sentence.removeprefix('py')}".replace(".:", ".py:").replace(
        ". defines", ".py defines"
    ) in refusal(load_backfill, folder, "item_sku")


def test_a_name_that_is_not_there(folder: Path) -> None:
    assert backfill_names(folder / "missing") == []
    assert "alembic/backfills/x.py" in refusal(load_backfill, folder, "x")
    write(folder, EMPTY_COLUMN)
    assert "item_sku" in refusal(load_backfill, folder, "../x")


def test_what_a_person_still_has_to_write(item: URL, folder: Path) -> None:
    write(
        folder,
        EMPTY_COLUMN.replace('{"sku": sa.func.concat("sku-", item.c.id)}', "{}").replace(", values", ",\nvalues"),
    )
    message = refusal(run, item, folder)
    assert all(part in message for part in ("item.sku", "alembic/backfills/item_sku.py:8"))
    assert message.endswith(RUN)
    fetch(item, "TRUNCATE item")
    assert run(item, folder).already_complete


@pytest.mark.parametrize(
    "key", ["id int UNIQUE", "id int NOT NULL", "id int NOT NULL, other int PRIMARY KEY DEFAULT 1"]
)
def test_a_key_that_would_leave_rows_out_or_read_all_of_them(database: URL, folder: Path, key: str) -> None:
    fetch(database, f"CREATE TABLE item ({key}, sku text)")
    fetch(database, "INSERT INTO item VALUES (1)")
    write(folder, EMPTY_COLUMN)
    assert "alembic/backfills/item_sku.py" in refusal(run, database, folder)


def test_a_name_that_is_used_again_for_something_else(item: URL, folder: Path) -> None:
    run(item, folder, write(folder, INCREMENT))
    fetch(item, "UPDATE safe_migrations.backfill SET finished_at = NULL, key = 'item (other)'")
    message = refusal(run, item, folder)
    assert all(part in message for part in ("item_sku", "item (other)", "item (id)"))
    fetch(item, "UPDATE safe_migrations.backfill SET finished_at = now()")
    write(folder, EMPTY_COLUMN)  # with where, once more is as good as the first time
    run(item, folder)
    assert rows(item, "SELECT count(sku), min(key) FROM item, safe_migrations.backfill") == [(100, "item (id)")]


def test_one_that_another_process_has_just_finished_is_not_begun_again(item: URL, folder: Path) -> None:
    run(item, folder, write(folder, INCREMENT))
    late = Batches("item_sku", load_backfill(folder, "item_sku"), "item_sku.py")
    # It has found rows to change, before the other one came to its end.
    assert on(item, lambda connection: (late.begin(connection), late.step(connection))) == (100, "finished")


def test_its_tables_are_none_of_the_service(item: URL, folder: Path) -> None:
    run(item, folder, write(folder, EMPTY_COLUMN))

    def look(connection: Connection) -> tuple[list[str], int]:
        context = MigrationContext.configure(connection)
        return own_relations(connection, {}), len(compare_metadata(context, MetaData()))

    assert on(item, look) == (["public.item"], 1)


def test_a_line_now_and_then_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    progress = Progress("item_sku", stream, 1000, 4000)
    progress.show(2000)
    assert stream.getvalue() == ""
    assert (
        progress.line(2000, 10)
        == "item_sku [############------------] 50 %, 100 rows/s, 20 s left, 2,000 of about 4,000 rows"
    )
    clock = [progress._begun + 10.01]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    progress.show(3000)
    clock[0] += 5
    progress.show(3500)
    progress.clear()
    (line,) = stream.getvalue().splitlines()
    assert line.endswith("75 %, 200 rows/s, 5 s left, 3,000 of about 4,000 rows")


def test_a_bar_on_a_terminal() -> None:
    reading, writing = os.openpty()
    with os.fdopen(writing, "w") as stream:
        progress = Progress("item_sku", stream)
        progress.show(2000)
        progress.clear()
        shown = ""
        while "\x1b[K" not in shown:
            shown += os.read(reading, 1000).decode()
    os.close(reading)
    assert shown.startswith("\ritem_sku: 2,000 rows, ")
    assert shown.endswith("\r\x1b[K")
    assert "\n" not in shown


@pytest.fixture
def replicated(thorough: bool) -> Iterator[tuple[URL, URL]]:
    """A server with a table of 100 rows, and its standby."""
    if not thorough:
        pytest.skip("other tests here put a table in the place of what two servers tell: pdm run test-all")
    with ExitStack() as stack:
        cluster = stack.enter_context(throw_away_cluster(find_programs(18)))
        port = cluster.url().port
        cluster.stop()
        standby = Cluster(cluster.folder.with_name("standby"), cluster.programs)
        subprocess.run(["cp", "-a", cluster.folder, standby.folder], check=True)
        cluster.start(port)
        standby.folder.joinpath("data", "standby.signal").touch()
        address = " ".join(f"{name[2:].lower()}={value}" for name, value in client_environment(cluster.url()).items())
        with standby.folder.joinpath("data", "postgresql.conf").open("a") as file:
            file.write(f"primary_conninfo = '{address.replace('database=', 'dbname=')}'")
        standby.start()
        stack.callback(standby.stop)
        wait_for(cluster.url(), "SELECT 1 FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()")
        fetch(cluster.url(), "CREATE TABLE item (id bigint PRIMARY KEY, price int NOT NULL DEFAULT 0)")
        fetch(cluster.url(), "INSERT INTO item SELECT generate_series(1, 100)")
        yield cluster.url(), standby.url()


@pytest.fixture
def standbys(item: URL) -> URL:
    """A database in which a table stands for PostgreSQL's view of standbys."""
    fetch(item, "CREATE SCHEMA standbys")
    fetch(item, "CREATE TABLE standbys.pg_stat_replication AS SELECT * FROM pg_stat_replication")
    path = "EXECUTE format('ALTER DATABASE %I SET search_path = standbys, pg_catalog, public', current_database())"
    fetch(item, f"DO $$ BEGIN {path}; END $$")
    return item


def add_standby(database: URL, values: str) -> None:
    """One more standby."""
    columns = "application_name, state, replay_lsn, replay_lag"
    fetch(database, f"INSERT INTO standbys.pg_stat_replication ({columns}) VALUES ({values})")  # noqa: S608


def test_the_slowest_standby_counts(standbys: URL) -> None:
    assert on(standbys, Lag().measure) == ("", 0)
    add_standby(standbys, "'quick', 'streaming', 'FFFFFFFF/0', '2 h'")
    add_standby(standbys, "'archive', 'streaming', NULL, NULL")
    assert on(standbys, Lag().measure) == ("", 0)
    add_standby(standbys, "'slow', 'streaming', '0/1', '1 h'")
    assert on(standbys, Lag().measure) == ("slow", 3600)


def test_state_on_a_standby_names_the_setting_of_the_primary(replicated: tuple[URL, URL], render: Render) -> None:
    service = render()
    service.configure(replicated[1])
    assert "ORDERS_MIGRATION_DATABASE_URL" in service.run("safe-migrations", "state").stdout


def test_a_standby_that_has_stopped_is_waited_for(
    standbys: URL, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, INCREMENT)
    add_standby(standbys, "'slow', 'streaming', '0/1', NULL")
    add_standby(standbys, "NULL, NULL, NULL, NULL")
    monkeypatch.setattr(backfill, "WATCH", 0.05)
    monkeypatch.setattr(timeouts, "REPORT", 0.2)

    async def meanwhile() -> Done:
        definition, pace = load_backfill(folder, "item_sku"), Pace(nice_ratio=0, max_lag=0)
        task = asyncio.create_task(run_backfill(at(standbys), folder, "item_sku", definition, pace))
        await asyncio.to_thread(wait_for, standbys, "SELECT 1 FROM pg_class WHERE relname = 'backfill_batch'")
        await asyncio.sleep(0.6)
        assert await asyncio.to_thread(fetch, standbys, "SELECT 1 FROM item WHERE price = 1") == []
        await asyncio.to_thread(fetch, standbys, "UPDATE standbys.pg_stat_replication SET replay_lsn = 'FFFFFFFF/0'")
        return await task

    assert run_async(meanwhile()).rows == 100
    output = capsys.readouterr().err
    assert re.search(r"rows/s.*; waiting, because the standby slow is 0\.[2-9]\d* s behind$", output, re.M)
    assert output.splitlines().count(backfill.HIDDEN) == 1


def test_standbys_that_are_behind_are_waited_for_and_hidden_ones_told_of(
    replicated: tuple[URL, URL], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    primary, standby = replicated
    write(folder, INCREMENT)
    monkeypatch.setattr(backfill, "WATCH", 0.05)
    monkeypatch.setattr(timeouts, "REPORT", 0.1)
    query = "SELECT count(*) FROM item WHERE price = 1"

    async def run_while_paused() -> tuple[list[int], Done]:
        definition = load_backfill(folder, "item_sku")
        pace = Pace(nice_ratio=20, max_lag=0.2)
        task = asyncio.create_task(run_backfill(at(primary), folder, "item_sku", definition, pace))
        await asyncio.to_thread(wait_for, primary, "SELECT 1 FROM item WHERE price = 1 LIMIT 1")
        await asyncio.to_thread(fetch, standby, "SELECT pg_wal_replay_pause()")
        counts = []
        for seconds in (1, 0.5):
            await asyncio.sleep(seconds)
            counts.append((await asyncio.to_thread(fetch, primary, query))[0][0])
        await asyncio.to_thread(fetch, standby, "SELECT pg_wal_replay_resume()")
        return counts, await task

    counts, result = run_async(run_while_paused())
    assert counts[0] == counts[1] < 100
    assert result.rows == 100
    assert rows(primary, query) == [(100,)]
    assert re.search(
        r"rows/s.*; waiting, because the standby walreceiver is [\d.]+ s behind$", capsys.readouterr().err, re.M
    )

    fetch(primary, "CREATE ROLE somebody LOGIN PASSWORD 'secret'")
    fetch(primary, "GRANT SELECT, UPDATE ON item TO somebody")
    fetch(primary, "GRANT CREATE ON DATABASE postgres TO somebody")
    fetch(primary, "DROP SCHEMA safe_migrations CASCADE")
    run(primary.set(username="somebody", password="secret"), folder)
    assert capsys.readouterr().err.splitlines().count(backfill.HIDDEN) == 1
