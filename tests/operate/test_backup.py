"""Backups on a real server, with the real programs of every supported version."""

import asyncio
import os
import re
import signal
import stat
import subprocess
import tempfile
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import URL

from safe_migrations.dev.cluster import THROW_AWAY, Cluster, throw_away_cluster
from safe_migrations.errors import BackupError, ConnectionFailedError, LockedError, MigrationError
from safe_migrations.operate import backup as module
from safe_migrations.operate.backup import backup, restore
from safe_migrations.postgres import program_runs, programs
from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.postgres.creation import create_database, database_exists, drop_database
from safe_migrations.postgres.database import client_environment
from safe_migrations.postgres.programs import find_programs, find_tools
from support import NewDatabase, NewRole, at, fetch, tables

SCHEMA = """
    CREATE TYPE state AS ENUM ('new', 'sent');
    CREATE TABLE customers (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, name text NOT NULL UNIQUE);
    CREATE TABLE orders (
        id serial PRIMARY KEY,
        customer bigint NOT NULL REFERENCES customers,
        state state DEFAULT 'new',
        net numeric(10, 2) CHECK (net > 0),
        gross numeric GENERATED ALWAYS AS (net * 1.19) STORED
    );
    CREATE INDEX orders_new ON orders (customer) WHERE state = 'new';
    CREATE VIEW sent AS SELECT * FROM orders WHERE state = 'sent';
    CREATE FUNCTION twice(value int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * value';
    INSERT INTO customers (name) SELECT 'Zoë ' || number FROM generate_series(1, 100) AS number;
    INSERT INTO orders (customer, net) SELECT id, id + 0.5 FROM customers;
"""
# Compresses badly and takes pg_dump half a second or so: there is time to look at it.
BIG = """
    CREATE TABLE big AS SELECT sha512(CAST(CAST(number AS text) AS bytea)) AS noise
    FROM generate_series(1, 50000) AS number
"""


def fill(url: URL) -> None:
    """Make a schema with rows."""
    fetch(url, f"DO $$ BEGIN {SCHEMA} END $$")


def schema(url: URL, *options: str) -> str:
    """The schema as pg_dump sees it, but for the key that it makes up on each run."""
    pg_dump = find_programs(18, exactly=True) / "pg_dump"
    environment = os.environ | client_environment(url)
    dumped = subprocess.run([pg_dump, "--schema-only", *options], env=environment, capture_output=True, check=True)
    return re.sub(r"^\\(un)?restrict .*$", "", dumped.stdout.decode(), flags=re.MULTILINE)


def rows(url: URL) -> list[Any]:
    """What stands in the tables of `fill`."""
    return [*fetch(url, "SELECT * FROM customers ORDER BY id"), *fetch(url, "SELECT * FROM orders ORDER BY id")]


def refusal(work: Awaitable[None], *secrets: str, kind: type[MigrationError] = BackupError) -> str:
    """The message of the error of this kind that this ends with."""

    async def run() -> None:
        await work

    with pytest.raises(kind) as failure:
        run_async(run())
    sentence = str(failure.value)
    assert not [secret for secret in secrets if secret in sentence]
    return sentence


def program(folder: Path, version: str) -> Path:
    """A pg_dump that says it is of this version."""
    folder.mkdir()
    (folder / "pg_dump").write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}'\n")
    (folder / "pg_dump").chmod(0o700)
    return folder


@pytest.fixture
def new_name(server: URL) -> Iterator[str]:
    """The name of a database that does not exist yet, and which is dropped after the test."""
    name = f"restored = '{uuid4().hex}'"  # a name that libpq would take for connection parameters
    yield name
    run_async(drop_database(at(server), name))


@pytest.fixture(scope="module")
def big(server: URL) -> Iterator[URL]:
    """A database that takes pg_dump a while."""
    url = server.set(database=f"big_{uuid4().hex}")
    run_async(create_database(at(server), str(url.database)))
    fetch(url, BIG)
    yield url
    run_async(drop_database(at(server), str(url.database)))


def children() -> list[Path]:
    """The running programs of this process, as folders of /proc."""
    pids = Path("/proc/self/task").glob("*/children")
    return [Path("/proc", pid) for task in pids for pid in task.read_text().split()]


async def child(program: str) -> Path:
    """Wait until a program of this process runs."""
    while True:
        for process in children():
            if (process / "comm").read_text().strip() == program:
                return process
        await asyncio.sleep(0.005)


def test_restored_database_equals_the_original(database: URL, new_name: str, new_role: NewRole, tmp_path: Path) -> None:
    fill(database)
    fetch(database, f"GRANT SELECT ON orders TO {new_role('NOLOGIN', 'x')}")
    run_async(backup(at(database), tmp_path / "-file of a 'service'"))
    assert [path.name for path in tmp_path.iterdir()] == ["-file of a 'service'"]
    run_async(restore(at(database), tmp_path / "-file of a 'service'", new_name))
    restored = database.set(database=new_name)
    assert schema(restored) == schema(database)
    assert rows(restored) == rows(database) != []


def test_more_partitions_than_a_transaction_can_create(tmp_path: Path) -> None:
    """As 5,000 are with PostgreSQL's own settings; each backup that can be made can be restored."""
    cluster = Cluster(tmp_path / "cluster", find_programs(18, exactly=True))
    few = {"max_locks_per_transaction": "10", "max_connections": "10", "max_worker_processes": "0"}
    cluster.start(settings={**THROW_AWAY, **few, "autovacuum_worker_slots": "1", "max_wal_senders": "0"})
    try:
        fetch(cluster.url(), "CREATE TABLE entry (id bigint, name text) PARTITION BY LIST (id)")
        for first in range(0, 120, 40):
            create = "EXECUTE format('CREATE TABLE entry_%s PARTITION OF entry FOR VALUES IN (%s)', number, number);"
            fetch(cluster.url(), f"DO $$ BEGIN FOR number IN {first}..{first + 39} LOOP {create} END LOOP; END $$")
        run_async(backup(at(cluster.url()), tmp_path / "backup.dump"))
        run_async(restore(at(cluster.url()), tmp_path / "backup.dump", "restored"))
        assert len(tables(cluster.url("restored"))) == 121
    finally:
        cluster.stop()


def test_relative_path(database: URL, new_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_async(backup(at(database), Path("-file")))
    run_async(restore(at(database), Path("-file"), new_name))


def test_without_owners(database: URL, new_name: str, new_role: NewRole, tmp_path: Path) -> None:
    role = new_role("NOLOGIN", "x")
    fetch(database, "CREATE TABLE marker (id int)")
    fetch(database, f"GRANT SELECT ON marker TO {role}")
    fetch(database, f"CREATE SCHEMA theirs AUTHORIZATION {role}")
    run_async(backup(at(database), tmp_path / "file"))
    run_async(restore(at(database), tmp_path / "file", new_name, owners=False))
    assert role not in schema(database.set(database=new_name))
    assert "marker" in schema(database.set(database=new_name))
    fetch(database, f"DROP OWNED BY {role}")


def test_private_to_its_owner_from_the_first_byte(
    big: URL, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_runs, "FIRST_REPORT", 0.05)
    old_mask = os.umask(0)
    try:

        async def look() -> None:
            running = asyncio.create_task(backup(at(big), tmp_path / "file"))
            process = await child("pg_dump")
            assert str(big.password) not in (process / "cmdline").read_text()
            assert str(big.password) in (process / "environ").read_text()
            assert "PGCONNECT_TIMEOUT=10\0" in (process / "environ").read_text()
            (temporary,) = tmp_path.iterdir()
            assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
            await running

        run_async(look())
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    output = capfd.readouterr().err
    assert re.match(r"pg_dump: 0 s, \d+\.\d MB so far\n", output)
    assert str(big.password) not in output


def test_pg_dump_is_killed(big: URL, tmp_path: Path) -> None:
    async def kill() -> None:
        running = asyncio.create_task(backup(at(big), tmp_path / "file"))
        process = await child("pg_dump")
        os.kill(int(process.name), signal.SIGKILL)
        await running

    assert "pg_dump failed (ended by signal 9)" in refusal(kill())
    assert list(tmp_path.iterdir()) == []


def test_interrupted_backup_leaves_nothing(big: URL, tmp_path: Path) -> None:
    before = children()  # such as the parent of warm_python.py

    async def interrupt() -> None:
        running = asyncio.create_task(backup(at(big), tmp_path / "file"))
        await child("pg_dump")
        while not any(file.stat().st_size for file in tmp_path.iterdir()):
            await asyncio.sleep(0.005)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert children() == before, "ended here, and not by the end of the loop"

    run_async(interrupt())
    assert list(tmp_path.iterdir()) == []


def test_interrupted_restore_leaves_nothing(big: URL, new_name: str, tmp_path: Path) -> None:
    run_async(backup(at(big), tmp_path / "file"))

    before = children()  # such as the parent of warm_python.py

    async def interrupt() -> None:
        running = asyncio.create_task(restore(at(big), tmp_path / "file", new_name))
        while not await database_exists(at(big), new_name):
            await asyncio.sleep(0.01)
        await child("pg_restore")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert children() == before, "ended here, and not by the end of the loop"

    run_async(interrupt())
    assert not run_async(database_exists(at(big), new_name))


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_existing_file_is_refused(database: URL, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "file"
    match kind:
        case "file":
            file.write_text("kept")
        case "folder":
            file.mkdir()
        case _:
            file.symlink_to("nowhere")
    before = file.lstat()
    assert "already exists" in refusal(backup(at(database.set(port=1)), file)), "asked before connecting"
    assert (file.lstat(), list(tmp_path.iterdir())) == (before, [file])


@pytest.mark.parametrize("hard_links", [True, False])
def test_file_that_comes_meanwhile_is_kept(
    database: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    file = tmp_path / "file"
    make = tempfile.mkstemp

    def meanwhile(**options: Any) -> tuple[int, str]:
        file.write_text("theirs")
        return make(**options)

    monkeypatch.setattr(tempfile, "mkstemp", meanwhile)
    if not hard_links:
        monkeypatch.setattr(os, "link", no_hard_links)
    assert "already exists" in refusal(backup(at(database), file))
    assert file.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [file]


def no_hard_links(*_: object) -> None:
    """What such a filesystem says."""
    raise PermissionError(1, "Operation not permitted")


def test_filesystem_without_hard_links(database: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_hard_links)
    run_async(backup(at(database), tmp_path / "file"))
    assert (tmp_path / "file").read_bytes()[:5] == b"PGDMP"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    assert len(list(tmp_path.iterdir())) == 1


def test_folder_is_missing_or_may_not_be_written(database: URL, tmp_path: Path) -> None:
    missing = tmp_path / "a folder" / "file"
    assert f"mkdir -p '{missing.parent}'" in refusal(backup(at(database), missing))
    assert "could not be written (" in refusal(backup(at(database), Path("/proc/self/file")))


def test_full_disk(big: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").symlink_to("/dev/full")
    full = (os.open(os.devnull, os.O_RDONLY), os.fspath(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "mkstemp", lambda **_: full)
    assert "No space left on device" in refusal(backup(at(big), tmp_path / "file"))
    assert list(tmp_path.iterdir()) == []


def test_dump_that_lacks_its_end(database: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pg_dump leaves, with exit status 0, when all but the last page fits on the disk."""
    fill(database)
    real = find_programs(18, exactly=True)
    folder = program(tmp_path / "programs", "18.6")
    with (folder / "pg_dump").open("a") as script:
        script.write(f'[ "$1" = --version ] && exit\n{real}/pg_dump "$@"\ntruncate -s -100 "${{2#--file=}}"\n')
    (folder / "pg_restore").symlink_to(real / "pg_restore")
    monkeypatch.setattr(programs, "_folders", lambda: [folder])
    sentence = refusal(backup(at(database), tmp_path / "file"))
    assert "could not read from input file: end of file" in sentence
    assert list(tmp_path.iterdir()) == [folder]


def test_table_that_the_user_may_not_read(database: URL, new_role: NewRole, tmp_path: Path) -> None:
    role = new_role("LOGIN", "top-secret")
    fetch(database, "CREATE TABLE hidden (id int)")
    sentence = refusal(backup(at(database.set(username=role, password="top-secret")), tmp_path / "file"), "top-secret")
    assert f"'{role}'" in sentence
    assert "permission denied for table hidden" in sentence
    assert "TEST_MIGRATION_DATABASE_URL" in sentence
    assert list(tmp_path.iterdir()) == []


def test_wrong_password(database: URL, tmp_path: Path) -> None:
    wrong = database.set(password="guessed-wrongly")
    assert "refused the password" in refusal(
        backup(at(wrong), tmp_path / "file"), "guessed-wrongly", kind=ConnectionFailedError
    )
    assert list(tmp_path.iterdir()) == []


def test_locked_table(database: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_TIMEOUT", 0.2)
    fetch(database, "CREATE TABLE locked (id int)")

    async def meet_lock() -> None:
        async with connected(at(database)) as connection:
            await connection.exec_driver_sql("LOCK TABLE locked")
            await asyncio.wait_for(backup(at(database), tmp_path / "file"), 10)

    assert "safe-migrations locks" in refusal(meet_lock(), kind=LockedError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, b"", b"CREATE TABLE orders ();\n", b"PGDMP then noise"])
def test_no_database_is_made_for_what_is_no_backup(
    server: URL, new_name: str, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    sentence = refusal(restore(at(server), tmp_path / "file", new_name))
    assert "does not exist" in sentence if content is None else "can't read" in sentence
    assert "dropped" not in sentence
    assert not run_async(database_exists(at(server), new_name))


def test_existing_database_is_left_alone(database: URL, new_database: NewDatabase, tmp_path: Path) -> None:
    other = new_database()
    fetch(database, "CREATE TABLE original (id int)")
    fetch(other, "CREATE TABLE theirs (id int)")
    run_async(backup(at(database), tmp_path / "file"))
    sentence = refusal(restore(at(database), tmp_path / "file", str(other.database)))
    assert f"The database '{other.database}' already exists" in sentence
    assert tables(other) == {"theirs"}


def test_user_who_may_not_create_databases(database: URL, new_role: NewRole, new_name: str, tmp_path: Path) -> None:
    run_async(backup(at(database), tmp_path / "file"))
    user = database.set(username=new_role("LOGIN", "top-secret"), password="top-secret")
    sentence = refusal(restore(at(user), tmp_path / "file", new_name), "top-secret")
    assert "permission denied to create database" in sentence


@pytest.mark.parametrize("damage", ["truncated", "role"])
def test_failed_restore_drops_the_new_database(
    database: URL, new_name: str, new_role: NewRole, tmp_path: Path, damage: str
) -> None:
    fill(database)
    file = tmp_path / "file"
    role = new_role("NOLOGIN", "x")
    fetch(database, f"CREATE SCHEMA theirs AUTHORIZATION {role}")
    run_async(backup(at(database), file))
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-300])
    else:
        fetch(database, f"DROP OWNED BY {role}")
        fetch(database, f"ALTER ROLE {role} RENAME TO {role}_renamed")
    sentence = refusal(restore(at(database), file, new_name), str(database.password))
    assert f'"{new_name}" was dropped' in sentence
    assert "end of file" in sentence if damage == "truncated" else f'role "{role}" does not exist' in sentence
    assert not run_async(database_exists(at(database), new_name))
    if damage == "role":
        fetch(database, f"ALTER ROLE {role}_renamed RENAME TO {role}")
    fetch(database, f"DROP OWNED BY {role}")


def test_data_is_not_in_the_sentence(database: URL, new_name: str, tmp_path: Path) -> None:
    fetch(database, "CREATE TABLE people (name text)")
    fetch(database, "INSERT INTO people VALUES ('Ada'), ('Ada')")
    fetch(database, "CREATE FUNCTION fails() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN true; END'")
    fetch(database, "ALTER TABLE people ADD CHECK (fails() OR name = 'Grace')")
    fetch(database, "CREATE OR REPLACE FUNCTION fails() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN false; END'")
    run_async(backup(at(database), tmp_path / "file"))
    sentence = refusal(restore(at(database), tmp_path / "file", new_name), "Ada")
    assert "violates check constraint" in sentence


@pytest.mark.parametrize(
    "version",
    [
        15,
        *(
            pytest.param(n, marks=pytest.mark.thorough("15 is the oldest, and all other tests run on 18"))
            for n in (16, 17)
        ),
    ],
)
def test_every_version_of_server_and_programs(version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with throw_away_cluster(find_programs(version, exactly=True)) as cluster:
        original = cluster.url()
        fill(original)
        fetch(cluster.url("template1"), "CREATE TABLE clutter (id int)")
        before = schema(original), rows(original)
        for of_version in (version, 18):
            folder = find_programs(of_version, exactly=True)
            monkeypatch.setattr(programs, "_folders", lambda folder=folder: [folder])
            file = tmp_path / f"{of_version}"
            run_async(backup(at(original), file))
            run_async(restore(at(original), file, file.name))
            assert (schema(cluster.url(file.name)), rows(cluster.url(file.name))) == before
        fetch(original, "CREATE ROLE somebody")
        fetch(original, "CREATE SCHEMA theirs AUTHORIZATION somebody")
        run_async(backup(at(original), tmp_path / "theirs"))
        fetch(original, "DROP OWNED BY somebody")
        fetch(original, "DROP ROLE somebody")
        assert "somebody" in refusal(restore(at(original), tmp_path / "theirs", "theirs")), "no error is lost"
        monkeypatch.undo()
        assert find_tools("pg_restore", version)[0].version == version
        run_async(restore(at(original), tmp_path / "18", "newer"))  # which pg_restore of 15 and 16 can't read
        assert rows(cluster.url("newer")) == rows(original)


@pytest.mark.parametrize(
    ("server_version", "chosen"), [(14, [15, 16, 18]), (15, [15, 16, 18]), (16, [16, 18]), (17, [18])]
)
def test_nearest_version_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server_version: int, chosen: list[int]
) -> None:
    folders = [program(tmp_path / text, text) for text in ("18beta1", "15.18 (Debian 15.18-0+deb12u1)", "16.14")]
    monkeypatch.setattr(programs, "_folders", lambda: folders)
    assert [tool.version for tool in find_tools("pg_dump", server_version)] == chosen


def test_no_program_is_new_enough(database: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = program(tmp_path / "old", "14.9")
    monkeypatch.setattr(programs, "_folders", lambda: [old])
    sentence = refusal(backup(at(database), tmp_path / "file"))
    assert re.search(r"PostgreSQL (\d+) needs .* only 14 \(.*postgresql-client-\1 ", sentence)
    assert "pdm install" in sentence
    monkeypatch.setattr(programs, "_folders", lambda: [])
    assert "postgresql-client-18" in refusal(backup(at(database), tmp_path / "file"))
    assert list(tmp_path.iterdir()) == [old]


def test_programs_of_path_debian_and_wheels_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{program(tmp_path / 'mine', '18.1')}{os.pathsep}{os.environ['PATH']}")
    tools = find_tools("pg_dump", 1)
    assert Path(find_tools("pg_dump", 18)[0].path).parent == tmp_path / "mine", "PATH comes first"
    assert {tool.version for tool in tools} >= {15, 16, 17, 18}
    assert "/usr/bin/pg_dump" not in {tool.path for tool in tools}, "Debian's wrapper, of no certain version"


def test_environment_takes_it_to_no_other_server(
    database: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    monkeypatch.setenv("PGSERVICE", "other")
    run_async(asyncio.wait_for(backup(at(database), tmp_path / "file"), 5))


def test_server_that_ends_the_session(big: URL, tmp_path: Path) -> None:
    async def end_session() -> None:
        running = asyncio.create_task(backup(at(big), tmp_path / "file"))
        await child("pg_dump")
        end = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'safe_migrations pg_dump'"
        )
        async with connected(at(big), isolation_level="AUTOCOMMIT") as connection:
            while not (await connection.exec_driver_sql(f"{end} AND datname = current_database()")).all():
                await asyncio.sleep(0.01)
        await running

    assert "pg_dump failed (" in refusal(end_session(), str(big.password))
    assert list(tmp_path.iterdir()) == []
