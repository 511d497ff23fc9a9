"""Revisions with several steps: killed at any point, started by many, or kept waiting for a lock, they end alike."""

import re
import signal
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import URL

from lock_holder import end, holding, said, wait_for_a_try_that_fails
from safe_migrations.errors import LockedError
from safe_migrations.postgres.database import client_environment
from safe_migrations.postgres.programs import find_programs
from support import Process, Service, ToHead, bare_environment, fetch

PG_DUMP = find_programs(18) / "pg_dump"
TABLES = """
op.execute("CREATE TABLE applied (step text NOT NULL)")
op.execute("CREATE TABLE entry (id bigint PRIMARY KEY, word text NOT NULL)")
op.execute("INSERT INTO entry SELECT n, md5(n::text) FROM generate_series(1, 100) n")
"""
# What is run twice, or not at all, can be told from the rows.
UPGRADE = """
here("0")
if op.step("column"):
    here("1")
    op.execute("INSERT INTO applied VALUES ('column')")
    op.add_column("entry", sa.Column("sku", sa.Text()))
    here("2")
here("3")
if op.step("index"):
    here("4")
    op.create_index_concurrently("ix_entry_sku", "entry", ["sku"])
    here("5")
if op.step("check"):
    here("6")
    op.execute("INSERT INTO applied VALUES ('check')")
    op.create_check_constraint(op.f("ck_entry_sku"), "entry", "sku <> ''", postgresql_not_valid=True)
    here("7")
if op.step("validate"):
    here("8")
    op.validate_constraint("ck_entry_sku", "entry")
    here("9")
"""
DOWNGRADE = """
here("0")
if op.step("validate"):
    pass
here("1")
if op.step("check"):
    here("2")
    op.execute("DELETE FROM applied WHERE step = 'check'")
    op.drop_constraint(op.f("ck_entry_sku"), "entry")
    here("3")
if op.step("index"):
    here("4")
    op.drop_index_concurrently("ix_entry_sku", "entry")
    here("5")
if op.step("column"):
    op.execute("DELETE FROM applied WHERE step = 'column'")
    op.drop_column("entry", "sku")
    here("6")
"""
HERE = """
import os


def here(point):
    if os.environ.get("KILL_AT") == point:
        os.kill(os.getpid(), 9)
"""
HEAD = ("alembic", "upgrade", "head")
BACK = ("alembic", "-x", "yes", "downgrade", "0002_tables")


@pytest.fixture
def prepared(service: Service, to_head: ToHead) -> Service:
    """A service whose database has the tables, and a pending revision of four steps."""
    service.add_revision("tables", TABLES)
    to_head()
    service.add_revision("steps", UPGRADE, DOWNGRADE, HERE)
    service.environment |= {"MIGRATION_LOCK_TIMEOUT": "200ms", "MIGRATION_RETRY_WINDOW": "20s"}
    return service


def dump(database: URL) -> str:
    """The whole database, as pg_dump has it; but for the words by which psql knows a dump."""
    environment = bare_environment() | client_environment(database)
    text = subprocess.run([PG_DUMP], env=environment, capture_output=True, text=True, check=True).stdout
    return re.sub(r"^\\(un)?restrict .*", "", text, flags=re.MULTILINE)


def test_runs_that_are_killed_one_after_the_other_end_like_one(
    prepared: Service, database: URL, thorough: bool
) -> None:
    points = {HEAD: "0123456789" if thorough else "27", BACK: "0123456" if thorough else "3"}
    whole = {}
    for command in points:
        prepared.succeed(*command)
        whole[command] = dump(database)
    for command in points:
        for point in points[command]:
            process = prepared.start(*command, KILL_AT=point)
            process.communicate(timeout=60)
            assert process.returncode == -signal.SIGKILL
            assert dump(database) != whole[command]
        prepared.succeed(*command)
        assert dump(database) == whole[command]


def start(service: Service, count: int) -> list[Process]:
    return [service.start(*HEAD) for _ in range(count)]


def test_of_many_starters_each_step_is_run_once(prepared: Service, database: URL, thorough: bool) -> None:
    killed = prepared.start(*HEAD, KILL_AT="6")
    killed.communicate(timeout=60)
    for process in start(prepared, 16 if thorough else 3):
        end(process)
    assert fetch(database, "SELECT step FROM applied") == [("column",), ("check",)]


def test_a_step_that_waits_for_a_lock_is_tried_again_by_itself(prepared: Service, database: URL) -> None:
    steps = """
    if op.step("first"):
        op.execute("INSERT INTO applied VALUES ('first')")
    if op.step("second"):
        op.execute("INSERT INTO applied VALUES ('second')")
        op.add_column("entry", sa.Column("note", sa.Text()))
    """
    Path(prepared.versions, prepared.revisions()[-1]).unlink()
    prepared.add_revision("notes", steps)
    with holding(database):
        process = prepared.start(*HEAD)
        wait_for_a_try_that_fails(database)
        assert fetch(database, "SELECT step FROM applied") == [("first",)]
    log = end(process)
    assert 'step 2 of 2 "second"' in log
    assert "try 1" in log
    assert fetch(database, "SELECT step FROM applied") == [("first",), ("second",)]


def test_the_retry_window_is_a_step_s(prepared: Service, database: URL) -> None:
    prepared.environment["MIGRATION_RETRY_WINDOW"] = "500ms"
    Path(prepared.versions, prepared.revisions()[-1]).unlink()
    prepared.add_revision(
        "notes",
        'if op.step("first"):\n    op.execute("SELECT pg_sleep(0.6)")\n'
        'if op.step("second"):\n    op.add_column("entry", sa.Column("note", sa.Text()))',
    )
    with holding(database):
        sentence = said(end(prepared.start(*HEAD), LockedError.exit_status))
    assert 'step 2 of 2 "second"' in sentence
    assert 'steps of this revision: "first"' in sentence
    assert not re.search(r"Tries: 1\b", sentence)
    prepared.succeed(*HEAD)
