"""What a server, a role or a revision may have set, or may lack, does not end a migration or mislead it."""

import asyncio
import logging
import shlex
from pathlib import Path
from textwrap import dedent

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.runtime.environment import EnvironmentContext
from alembic.util import CommandError
from sqlalchemy import URL

from blocking_statement import wait_for
from lock_holder import connect
from plain_project import PlainProject
from safe_migrations.backfill.definition import load_backfill
from safe_migrations.backfill.running import Pace, run_backfill
from safe_migrations.errors import BackfillError, RefusedError, RevisionError
from safe_migrations.lint.check import lint
from safe_migrations.postgres.connection import run_async
from support import NewRole, Service, at, fetch

UPGRADE = ("alembic", "upgrade", "head")
INDEXES = """
for column in ("word", "id"):
    op.create_index_concurrently(f"ix_entry_{column}", "entry", [column])
"""
SLEEP = "import time\ntime.sleep(1.5)\nop.execute('SELECT pg_sleep(1.5)')"
SETTINGS = (
    *("transaction_timeout = '1s'", "idle_in_transaction_session_timeout = '1s'", "idle_session_timeout = '1s'"),
    *("statement_timeout = '1s'", "lock_timeout = '1ms'", "default_transaction_isolation = 'serializable'"),
    "default_transaction_deferrable = on",
)


@pytest.fixture
def project(tmp_path: Path, database: URL) -> PlainProject:
    """A project whose database has a table."""
    project = PlainProject(tmp_path / "project", database)
    project.begin("entry", "CREATE TABLE entry (id bigint PRIMARY KEY, word text NOT NULL)")
    return project


@pytest.fixture
def role(project: PlainProject, database: URL, new_role: NewRole) -> str:
    """A role without privileges of its own, which owns everything, and migrates."""
    role = new_role("LOGIN", "secret")
    fetch(database, f"ALTER DATABASE {database.database} OWNER TO {role}")
    fetch(database, f"ALTER SCHEMA public OWNER TO {role}")
    for table in ("entry", "alembic_version"):
        fetch(database, f"ALTER TABLE {table} OWNER TO {role}")
    project.url = database.set(username=role, password="secret")
    return role


def test_settings_of_the_role_do_not_end_a_migration(
    project: PlainProject, database: URL, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    project.add("slow", SLEEP, after="entry")
    for setting in SETTINGS:
        fetch(database, f"ALTER ROLE {role} SET {setting}")
    project.alembic(command.upgrade, "head")
    assert "lost" not in caplog.text, "the connection that holds the lock, and is idle, has not ended"


def test_the_version_of_a_concurrent_build_takes_no_temporary_table(
    project: PlainProject, database: URL, role: str
) -> None:
    """Killed between the build and its version, the next run compares the index with what it would build."""
    fetch(database, f"REVOKE TEMPORARY ON DATABASE {database.database} FROM PUBLIC")
    fetch(database, f"REVOKE TEMPORARY ON DATABASE {database.database} FROM {role}")
    fetch(database, "CREATE INDEX ix_entry_word ON entry (word)")
    project.add("indexes", INDEXES, after="entry")
    project.alembic(command.upgrade, "head")


@pytest.mark.parametrize("invalid", ["ix_entry_word", "ix_entry_id"])
def test_an_index_is_known_by_the_operation_that_builds_it(project: PlainProject, database: URL, invalid: str) -> None:
    """Not by a string in the file, which need not have its name."""
    project.add("indexes", INDEXES, after="entry")
    column = invalid.removeprefix("ix_entry_")
    fetch(database, f"CREATE INDEX {invalid} ON entry ({column})")
    mark = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = CAST(CAST(:name AS text) AS regclass)"
    fetch(database, mark, name=invalid)
    project.alembic(command.upgrade, "head")
    assert fetch(database, "SELECT 1 FROM pg_index WHERE NOT indisvalid") == []


def test_a_revision_that_exits_has_failed(service: Service) -> None:
    service.add_revision("exits", "raise SystemExit(0)")
    assert "_exits.py" in service.fail(*UPGRADE, kind=RevisionError)


def test_a_revision_or_a_file_that_exits_is_an_error(project: PlainProject) -> None:
    for ending in ("import sys\nsys.exit()", "raise SystemExit(3)"):
        project.add("exits", ending, after="entry")
        with pytest.raises(RevisionError, match=r"exits\.py"):
            project.alembic(command.upgrade, "head")
    assert "SystemExit" in str(lint(project.script, project.scripts("exits"), 18))
    folder = project.folder / "migrations" / "backfills"
    folder.mkdir()
    folder.joinpath("exits.py").write_text("raise SystemExit(0)")
    with pytest.raises(BackfillError, match=r"exits\.py"):
        load_backfill(folder, "exits")
    file = project.add("exits", "pass", after="entry")
    text = file.read_text()
    for status in ("", "3"):
        file.write_text(f"{text}\nraise SystemExit({status})\n")
        with pytest.raises(RevisionError, match=r"exits\.py"):
            project.alembic(command.upgrade, "head")


def test_a_function_that_nobody_knows_is_guarded(project: PlainProject, database: URL) -> None:
    """Alembic's documented way to run revisions of one's own choice: it migrated what `alembic upgrade` refuses."""

    def migrate() -> None:
        script = project.script
        with EnvironmentContext(
            project.config(),
            script,
            fn=lambda revision, _: script._upgrade_revs("head", revision),
            destination_rev="head",
        ):
            script.run_env()

    fetch(database, "DELETE FROM alembic_version")
    with pytest.raises(RefusedError):
        migrate()
    fetch(database, "INSERT INTO alembic_version VALUES ('entry')")
    project.add("later", after="entry")
    migrate()
    assert fetch(database, "SELECT count(*) FROM later") == [(0,)]


def test_a_backfill_is_not_complete_because_its_rows_are_hidden(
    project: PlainProject, database: URL, role: str
) -> None:
    definition = """
    import sqlalchemy as sa
    from safe_migrations.backfills import Backfill
    entry = sa.table("entry", sa.column("id"), sa.column("word"))
    backfill = Backfill(table=entry, key=("id",), where=entry.c.word == "", values={"word": "none"})
    """
    folder = project.folder / "migrations" / "backfills"
    folder.mkdir()
    folder.joinpath("words.py").write_text(dedent(definition))
    file = project.add("contracts", "pass", after="entry")
    file.write_text(file.read_text() + '\nphase = "contract"\nrequires_backfill = "words"\n')
    fetch(database, "INSERT INTO entry VALUES (1, '')")
    for clause in ("ENABLE", "FORCE"):
        fetch(database, f"ALTER TABLE entry {clause} ROW LEVEL SECURITY")
    for run in (
        lambda: project.alembic(command.upgrade, "head"),
        lambda: run_async(run_backfill(at(project.url), folder, "words", load_backfill(folder, "words"), Pace())),
    ):
        with pytest.raises(BackfillError, match=r"entry.*BYPASSRLS"):
            run()


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


def test_a_column_of_a_database_writes_no_line_of_alembic_s_log(
    project: PlainProject, database: URL, caplog: pytest.LogCaptureFixture
) -> None:
    query = "SELECT format('ALTER TABLE entry ADD %I int', CAST(:name AS text))"
    ((statement,),) = fetch(database, query, name=HOSTILE)
    fetch(database, str(statement))
    project.models = sa.MetaData()
    sa.Table("entry", project.models, sa.Column("id", sa.BigInteger, primary_key=True))
    with caplog.at_level(logging.INFO), pytest.raises(CommandError):
        project.alembic(command.check)
    assert f"Detected removed column 'entry.{HOSTILE[:9]}" in caplog.text
    assert not [line for line in caplog.text.splitlines() if line.startswith(("\x1b", "State"))]


def test_the_name_of_a_locked_table_can_not_look_like_a_session(service: Service, database: URL) -> None:
    (statement,) = fetch(database, "SELECT format('CREATE TABLE %I ()', CAST(:name AS text))", name=HOSTILE)[0]
    fetch(database, str(statement))
    lock = f'LOCK TABLE "{HOSTILE}"'

    async def wait() -> None:
        holder, waiter = await connect(database, "holder"), await connect(database, "waiter")
        await holder.execute(f"BEGIN; {lock}")
        waiting = asyncio.create_task(waiter.execute(f"BEGIN; {lock}"))
        try:
            await asyncio.to_thread(wait_for, database, WAITING)
            output = await asyncio.to_thread(service.succeed, "safe-migrations", "locks")
        finally:
            await holder.close()
            await waiting
            await waiter.close()
        assert "waits for AccessExclusiveLock on " in output
        assert "\x1b[2J" not in output
        assert not [line for line in output.splitlines() if "State: at head" in line and "touch" not in line]

    asyncio.run(wait())


def test_settings_of_a_revision_end_with_it(project: PlainProject) -> None:
    project.add("sets", "op.execute('SET lock_timeout = 0')\nop.execute('SET DateStyle = German')", after="entry")
    check = "assert op.get_bind().scalar(sa.text('SHOW {}')) == '{}'"
    reads = f"{check.format('lock_timeout', '1s')}\n{check.format('DateStyle', 'ISO, MDY')}"
    project.add("reads", reads, after="sets")
    project.alembic(command.upgrade, "head")


def test_a_downgrade_of_an_empty_database_has_nothing_to_do(
    tmp_path: Path, database: URL, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        PlainProject(tmp_path / "project", database).alembic(command.downgrade, "base")
    assert "another" not in caplog.text.lower()
    assert "nothing to do" in caplog.text
