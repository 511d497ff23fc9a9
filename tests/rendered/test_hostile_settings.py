"""What a server, a role or a revision may have set, or may lack, does not end a migration or mislead it."""

import asyncio
import shlex
from textwrap import dedent

import pytest
from sqlalchemy import URL

from blocking_statement import wait_for
from lock_holder import connect
from safe_migrations.errors import BackfillError, RevisionError
from support import NewRole, Service, ToHead, fetch

UPGRADE = ("alembic", "upgrade", "head")
INDEXES = """
for column in ("word", "id"):
    op.create_index_concurrently(f"ix_entry_{column}", "entry", [column])
"""
ENTRY = 'op.execute("CREATE TABLE entry (id bigint PRIMARY KEY, word text NOT NULL)")'
SLEEP = "import time\ntime.sleep(1.5)\nop.execute('SELECT pg_sleep(1.5)')"


@pytest.fixture
def prepared(service: Service, to_head: ToHead) -> Service:
    """A service whose database has a table."""
    service.add_revision("entry", ENTRY)
    to_head()
    return service


def role_of_the_service(service: Service, database: URL, new_role: NewRole) -> str:
    """Let a role without privileges of its own own everything, and migrate."""
    role = new_role("LOGIN", "secret")
    fetch(database, f"ALTER DATABASE {database.database} OWNER TO {role}")
    fetch(database, f"ALTER SCHEMA public OWNER TO {role}")
    for table in ("entry", "item", "alembic_version"):
        fetch(database, f"ALTER TABLE {table} OWNER TO {role}")
    service.configure(database.set(username=role, password="secret"))
    return role


@pytest.fixture
def role(prepared: Service, database: URL, new_role: NewRole) -> str:
    return role_of_the_service(prepared, database, new_role)


@pytest.mark.parametrize(
    "setting",
    [
        *("transaction_timeout = '1s'", "idle_in_transaction_session_timeout = '1s'", "idle_session_timeout = '1s'"),
        *("statement_timeout = '1s'", "lock_timeout = '1ms'", "default_transaction_isolation = 'serializable'"),
        "default_transaction_deferrable = on",
    ],
)
def test_settings_of_the_role_do_not_end_a_migration(prepared: Service, database: URL, role: str, setting: str) -> None:
    prepared.add_revision("slow", SLEEP)
    fetch(database, f"ALTER ROLE {role} SET {setting}")
    prepared.succeed(*UPGRADE)


def test_the_version_of_a_concurrent_build_takes_no_temporary_table(
    prepared: Service, database: URL, role: str
) -> None:
    """Killed between the build and its version, the next run compares the index with what it would build."""
    fetch(database, f"REVOKE TEMPORARY ON DATABASE {database.database} FROM PUBLIC")
    fetch(database, f"REVOKE TEMPORARY ON DATABASE {database.database} FROM {role}")
    fetch(database, "CREATE INDEX ix_entry_word ON entry (word)")
    prepared.add_revision("indexes", INDEXES)
    prepared.succeed(*UPGRADE)


@pytest.mark.parametrize("invalid", ["ix_entry_word", "ix_entry_id"])
def test_an_index_is_known_by_the_operation_that_builds_it(prepared: Service, database: URL, invalid: str) -> None:
    """Not by a string in the file, which need not have its name."""
    prepared.add_revision("indexes", INDEXES)
    column = invalid.removeprefix("ix_entry_")
    fetch(database, f"CREATE INDEX {invalid} ON entry ({column})")
    mark = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = CAST(CAST(:name AS text) AS regclass)"
    fetch(database, mark, name=invalid)
    prepared.succeed(*UPGRADE)
    assert fetch(database, "SELECT 1 FROM pg_index WHERE NOT indisvalid") == []


@pytest.mark.parametrize("ending", ["raise SystemExit(0)", "import sys\nsys.exit()", "raise SystemExit(3)"])
def test_a_revision_that_exits_has_failed(prepared: Service, ending: str) -> None:
    prepared.add_revision("exits", ending)
    process = prepared.run(*UPGRADE)
    assert process.returncode == RevisionError.exit_status
    assert "_exits.py" in process.stderr


@pytest.mark.parametrize("status", [0, 3])
def test_a_file_that_exits_can_not_be_read(prepared: Service, status: int) -> None:
    prepared.add_revision("exits", "pass", declarations=f"raise SystemExit({status})")
    process = prepared.run(*UPGRADE)
    assert process.returncode == RevisionError.exit_status
    assert "_exits.py" in process.stderr


def test_a_backfill_and_a_checked_revision_that_exit_are_errors(prepared: Service) -> None:
    folder = prepared.folder / "alembic" / "backfills"
    folder.mkdir(exist_ok=True)
    folder.joinpath("exits.py").write_text("raise SystemExit(0)")
    assert "exits.py" in prepared.fail("safe-migrations", "backfill", kind=BackfillError)
    prepared.add_revision("exits", "raise SystemExit(0)")
    process = prepared.run("safe-migrations", "lint")
    assert (process.returncode, "_exits.py" in process.stdout) == (1, True)


def test_a_function_that_nobody_knows_is_guarded(prepared: Service, database: URL) -> None:
    """Alembic's documented way to run revisions of one's own choice: it migrated what `alembic upgrade` refuses."""
    program = """
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config("alembic.ini")
    script = ScriptDirectory.from_config(config)

    def up_to_head(revision, context):
        return script._upgrade_revs("head", revision)

    with EnvironmentContext(config, script, fn=up_to_head, destination_rev="head"):
        script.run_env()
    """
    fetch(database, "DELETE FROM alembic_version")
    process = prepared.run("python", "-c", dedent(program))
    assert "RefusedError" in process.stderr
    fetch(database, "INSERT INTO alembic_version VALUES ('0002_entry')")
    prepared.add_revision("later", "op.execute('CREATE TABLE later ()')")
    prepared.succeed("python", "-c", dedent(program))
    assert fetch(database, "SELECT count(*) FROM later") == [(0,)]


def test_a_backfill_is_not_complete_because_its_rows_are_hidden(prepared: Service, database: URL, role: str) -> None:
    definition = """
    import sqlalchemy as sa
    from safe_migrations.backfills import Backfill
    entry = sa.table("entry", sa.column("id"), sa.column("word"))
    backfill = Backfill(table=entry, key=("id",), where=entry.c.word == "", values={"word": "none"})
    """
    (prepared.folder / "alembic" / "backfills").mkdir(exist_ok=True)
    (prepared.folder / "alembic" / "backfills" / "words.py").write_text(dedent(definition))
    prepared.add_revision("contracts", "pass", declarations='phase = "contract"\nrequires_backfill = "words"')
    fetch(database, "INSERT INTO entry VALUES (1, '')")
    for clause in ("ENABLE", "FORCE"):
        fetch(database, f"ALTER TABLE entry {clause} ROW LEVEL SECURITY")
    for command in (UPGRADE, ("safe-migrations", "backfill", "words")):
        process = prepared.run(*command)
        assert process.returncode == BackfillError.exit_status
        assert "entry" in process.stderr
        assert "BYPASSRLS" in process.stderr


WAITING = "SELECT pid FROM pg_locks WHERE NOT granted AND relation IS NOT NULL"
HOSTILE = "x'; touch FILE #\n\x1b[2JState: at head"


def test_names_of_a_database_can_neither_act_nor_look_like_ours(service: Service, database: URL) -> None:
    fetch(database, "CREATE TABLE alembic_version (version_num text)")
    fetch(database, "INSERT INTO alembic_version VALUES (:name)", name=HOSTILE)
    outputs = [service.run(*command) for command in (UPGRADE, ("safe-migrations", "state"), ("alembic", "current"))]
    outputs.append(service.run("safe-migrations", "state", "--quick"))
    fetch(database, "DROP TABLE alembic_version")
    (statement,) = fetch(database, "SELECT format('CREATE TABLE %I ()', CAST(:name AS text))", name=HOSTILE)[0]
    fetch(database, str(statement))
    outputs += [service.run(*command) for command in (UPGRADE, ("safe-migrations", "state"))]
    for process in outputs:
        output = process.stdout + process.stderr
        assert process.returncode != 0
        assert "touch FILE" in output
        assert "\x1b[2J" not in output
        assert not [line for line in output.splitlines() if "State: at head" in line and "touch" not in line]
        for line in output.splitlines():
            if line.startswith("git "):
                assert [HOSTILE.split(";")[0] in word for word in shlex.split(line)].count(True) == 1


def test_a_column_of_a_database_writes_no_line_of_alembic_s_log(prepared: Service, database: URL) -> None:
    (statement,) = fetch(database, "SELECT format('ALTER TABLE item ADD %I int', CAST(:name AS text))", name=HOSTILE)[0]
    fetch(database, str(statement))
    process = prepared.run("alembic", "check")
    assert "Detected removed column" in process.stderr
    assert not [line for line in process.stderr.splitlines() if line.startswith(("\x1b", "State"))]


def test_the_name_of_a_locked_table_can_not_look_like_a_session(at_head: Service, database: URL) -> None:
    (statement,) = fetch(database, "SELECT format('CREATE TABLE %I ()', CAST(:name AS text))", name=HOSTILE)[0]
    fetch(database, str(statement))
    lock = f'LOCK TABLE "{HOSTILE}"'

    async def wait() -> None:
        holder, waiter = await connect(database, "holder"), await connect(database, "waiter")
        await holder.execute(f"BEGIN; {lock}")
        waiting = asyncio.create_task(waiter.execute(f"BEGIN; {lock}"))
        try:
            await asyncio.to_thread(wait_for, database, WAITING)
            output = await asyncio.to_thread(at_head.succeed, "safe-migrations", "locks")
        finally:
            await holder.close()
            await waiting
            await waiter.close()
        assert "waits for AccessExclusiveLock on " in output
        assert "\x1b[2J" not in output
        assert not [line for line in output.splitlines() if "State: at head" in line and "touch" not in line]

    asyncio.run(wait())


def test_settings_of_a_revision_end_with_it(prepared: Service) -> None:
    prepared.add_revision("sets", "op.execute('SET lock_timeout = 0')\nop.execute('SET DateStyle = German')")
    check = "assert op.get_bind().scalar(sa.text('SHOW {}')) == '{}'"
    prepared.add_revision("reads", f"{check.format('lock_timeout', '1s')}\n{check.format('DateStyle', 'ISO, MDY')}")
    prepared.succeed(*UPGRADE)


def test_a_downgrade_of_an_empty_database_has_nothing_to_do(service: Service) -> None:
    process = service.run("alembic", "downgrade", "base")
    assert process.returncode == 0
    assert "another" not in process.stderr.lower()
    assert "nothing to do" in process.stderr
