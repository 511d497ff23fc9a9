"""`safe-migrations backfill`, as its user runs it: killed, interrupted, beside others, before a revision."""

import json
import os
import signal
import time
from random import Random
from typing import Any

import pytest
from sqlalchemy import URL

from blocking_statement import wait_for
from safe_migrations.errors import BackfillError
from support import Process, Service, fetch

ROWS, BATCH = 4_000, 100
BACKFILL = ("safe-migrations", "backfill")
COMPLETE = "number was already complete.\n"
# Each row once, or it shows.
INCREMENT = f"""
import sqlalchemy as sa

from safe_migrations.backfills import Backfill

number = sa.table("number", sa.column("id"), sa.column("value"))
backfill = Backfill(table=number, key=("id",), values={{"value": number.c.value + 1}}, batch_size={BATCH})
"""
FILL = INCREMENT.replace("key=", "where=number.c.value.is_(None), key=").replace(
    "number.c.value + 1", "number.c.id * 2"
)
COUNTED = "SELECT value, count(*) FROM number GROUP BY 1 ORDER BY 1"
DONE = "SELECT 1 FROM number WHERE value = 1"
BEGUN = f"{DONE} LIMIT 1"
SESSIONS = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@pytest.fixture
def numbers(service: Service, database: URL) -> Service:
    """A service with a table of many rows, and a backfill that increments each."""
    fetch(database, "CREATE TABLE number (id bigint PRIMARY KEY, value bigint DEFAULT 0)")
    fetch(database, "INSERT INTO number SELECT generate_series(1, :rows)", rows=ROWS)
    write(service, INCREMENT)
    return service


def rows(url: URL, statement: str) -> list[Any]:
    """The rows of a statement."""
    return list(fetch(url, statement))


def write(service: Service, text: str, name: str = "number") -> None:
    """Write a definition."""
    folder = service.folder / "alembic" / "backfills"
    folder.mkdir(exist_ok=True)
    folder.joinpath(f"{name}.py").write_text(text)


def end(process: Process, signal_number: int) -> str:
    """End a process in its middle, and return what it has said."""
    os.killpg(process.pid, signal_number)
    _, stderr = process.communicate(timeout=60)
    return stderr


def test_a_run_after_a_kill_changes_each_row_once(
    numbers: Service, database: URL, thorough: bool, random: Random
) -> None:
    rounds = 40 if thorough else 1
    for number in range(1, rounds + 1):
        process = numbers.start(*BACKFILL, "--workers", "2", "--nice-ratio", "20")
        wait_for(database, "SELECT 1 FROM safe_migrations.backfill WHERE rows > 0" if number > 1 else BEGUN)
        time.sleep(random.random() * 0.3)
        end(process, signal.SIGKILL)
        (result,) = json.loads(numbers.succeed(*BACKFILL, "--workers", "2", "--nice-ratio", "0", "--json"))
        assert (result["rows"], result["already_complete"]) in ((ROWS, False), (0, True))
        assert rows(database, COUNTED) == [(number, ROWS)]
        fetch(database, "DELETE FROM safe_migrations.backfill")


def test_two_processes_share_the_work(numbers: Service, database: URL) -> None:
    # Slow enough for the second one to start before the first one has finished.
    processes = [numbers.start(*BACKFILL, "number", "--workers", "2", "--nice-ratio", "10") for _ in range(2)]
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert errors == ""  # no bar where there is no terminal
        assert output.startswith(f"number is complete: {ROWS:,} rows ")
    assert rows(database, COUNTED) == [(1, ROWS)]
    assert numbers.succeed(*BACKFILL) == COMPLETE


def test_an_interrupt_is_one_sentence_and_the_next_run_goes_on(numbers: Service, database: URL) -> None:
    process = numbers.start(*BACKFILL, "--nice-ratio", "20")
    wait_for(database, BEGUN)
    assert end(process, signal.SIGINT).startswith("Interrupted: ")
    assert process.returncode == 130
    wait_for(database, SESSIONS, count=0)
    assert ROWS > len(fetch(database, DONE)) > 0
    numbers.succeed(*BACKFILL, "--nice-ratio", "0")
    assert rows(database, COUNTED) == [(1, ROWS)]


def test_all_that_are_not_complete_in_order(numbers: Service, database: URL) -> None:
    fetch(database, "UPDATE number SET value = NULL WHERE id = 1")
    write(numbers, FILL, "a_fill")
    write(numbers, FILL, "z_fill")
    lines = numbers.succeed(*BACKFILL, "--nice-ratio", "0").splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "a_fill is complete",
        "number is complete",
        COMPLETE.strip().replace("number", "z_fill"),
    ]
    assert rows(database, COUNTED) == [(1, ROWS - 1), (3, 1)]
    (line,) = numbers.succeed(*BACKFILL).splitlines()
    assert "3 backfills" in line
    assert "a_fill" in numbers.succeed(*BACKFILL, "a_fill")
    message = numbers.fail(*BACKFILL, "none", kind=BackfillError)
    assert all(name in message for name in ("alembic/backfills/none.py", "a_fill", "number", "z_fill"))
    assert numbers.run(*BACKFILL, "--workers", "0").returncode == 2
    fetch(database, "DROP TABLE number")
    process = numbers.run(*BACKFILL)
    assert (process.returncode, process.stdout) == (0, COMPLETE)
    assert all(name in process.stderr for name in ("a_fill", "z_fill"))
    assert "a_fill" in numbers.fail(*BACKFILL, "a_fill", kind=BackfillError)
    assert numbers.run("safe-migrations", "state").stdout.startswith("fresh: ")


@pytest.mark.thorough("test_phases does it with a revision that deploy meets as well")
def test_a_contract_revision_waits_for_its_backfill(service: Service, database: URL) -> None:
    write(service, FILL)
    service.add_revision("number", 'op.execute("CREATE TABLE number (id bigint PRIMARY KEY, value bigint)")')
    service.succeed("alembic", "upgrade", "head")
    fetch(database, "INSERT INTO number VALUES (1)")
    service.add_revision("contract", 'op.alter_column("number", "value", nullable=False)')
    path = service.versions / service.revisions()[-1]
    path.write_text(path.read_text().replace("depends_on = None", 'depends_on = None\nrequires_backfill = "number"'))
    sentence = service.fail("alembic", "upgrade", "head")
    assert sentence.endswith("\nsafe-migrations backfill number")
    service.succeed(*BACKFILL, "number")
    service.succeed("alembic", "upgrade", "head")
    assert rows(database, "SELECT * FROM number") == [(1, 2)]
