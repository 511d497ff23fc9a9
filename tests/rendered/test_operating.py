"""What an operator runs: locks, backup, restore, rehearse, deploy."""

import asyncio
import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
from sqlalchemy import URL

from blocking_statement import wait_for
from lock_holder import end, holding
from safe_migrations.dev.cluster import throw_away_cluster
from safe_migrations.errors import BackupError, NotConfirmedError, RevisionError
from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.postgres.creation import drop_database
from safe_migrations.postgres.programs import find_programs, find_tools
from support import NewDatabase, NewRole, Process, Render, Service, as_text, at, fetch, tables

SAFE = ("safe-migrations",)
COLUMN = ('op.add_column("item", sa.Column("note", sa.Text()))', 'op.drop_column("item", "note")')
INDEX = ('op.create_index_concurrently("ix_item_note", "item", ["note"])', 'op.drop_index_concurrently("ix_item_note")')
REWRITE = 'op.execute("ALTER TABLE item ALTER COLUMN note TYPE varchar(10)")'
BACKFILL = """
import sqlalchemy as sa
from safe_migrations.backfills import Backfill

item = sa.table("item", sa.column("id"), sa.column("name"), sa.column("note"))
backfill = Backfill(table=item, key=("id",), where=item.c.note.is_(None), values={values})
"""
# A command as a user who can read everything and write nothing, without the programs that come first.
IN_IMAGE = """
number=$1; shift
while [ "$number" -gt 0 ]; do mount --bind /dev/null "$1"; shift; number=$((number - 1)); done
exec setpriv --reuid=10001 --regid=10001 --clear-groups --inh-caps=+dac_read_search \\
    --ambient-caps=+dac_read_search --securebits=+no_setuid_fixup "$@"
"""
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
DATABASES = "SELECT datname FROM pg_database WHERE datname LIKE :pattern"
SLEEPING = "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'"
CREATING = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE DATABASE%' AND wait_event = 'SyncRep'"
DROPPING = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'DROP DATABASE%' AND wait_event_type = 'Lock'"


@pytest.fixture
def filled(at_head: Service, database: URL) -> Service:
    """A service at head, with three items."""
    fetch(database, "INSERT INTO item (name) VALUES ('a'), ('b'), ('c')")
    return at_head


@asynccontextmanager
async def traffic_jam(database: URL) -> AsyncIterator[tuple[int, int]]:
    """One session holds a lock, and another one waits for it; gives the pids of both."""
    async with connected(at(database)) as holder, connected(at(database)) as waiter:
        await holder.exec_driver_sql("SET application_name = 'holder'")
        await waiter.exec_driver_sql("SET lock_timeout = 0")
        await waiter.exec_driver_sql("SET application_name = 'waiter'")
        await waiter.commit()
        holding = (
            await holder.exec_driver_sql("SELECT pg_backend_pid() FROM item WHERE name <> 'hunter2' LIMIT 1")
        ).scalar_one()
        waiting = (await waiter.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one()
        attempt = asyncio.create_task(waiter.exec_driver_sql("LOCK TABLE item IN ACCESS EXCLUSIVE MODE"))
        async with connected(at(database), isolation_level="AUTOCOMMIT") as observer:
            while not (await observer.exec_driver_sql(WAITING)).all():
                await asyncio.sleep(0.02)
        yield holding, waiting
        await asyncio.wait([attempt])


def test_locks_are_shown_as_a_tree(filled: Service, database: URL) -> None:
    async def look() -> None:
        async with traffic_jam(database) as (holding, waiting):
            tree, as_json = filled.succeed(*SAFE, "locks"), filled.succeed(*SAFE, "locks", "--json")
            refused = filled.fail(*SAFE, "locks", "--terminate", str(holding), kind=NotConfirmedError)
            ended = filled.run(*SAFE, "locks", "--terminate", str(holding), "--yes")
        ours = (f"pid {holding} ", f"pid {waiting} ")  # other tests use other databases of this server
        first, second = (line for line in tree.splitlines() if any(pid in line for pid in ours))
        assert re.match(
            rf"pid {holding} \(user postgres, application holder at 127.0.0.1, idle in transaction for .* s\): SELECT",
            first,
        )
        assert second.startswith(f"└─ pid {waiting} (user postgres, application waiter at 127.0.0.1, active for ")
        assert second.endswith("waits for AccessExclusiveLock on item")
        assert "hunter2" not in tree + as_json
        (root,) = (node for node in json.loads(as_json) if node["session"]["pid"] == holding)
        assert (root["session"]["pid"], root["waiting"][0]["session"]["pid"]) == (holding, waiting)
        assert refused.startswith(f"This ends pid {holding} ")
        assert refused.endswith(f"\nsafe-migrations locks --terminate {holding} --yes")
        assert ended.stdout == f"The session with pid {holding} was ended.\n"

    run_async(look())


def test_only_a_session_of_this_database_can_be_ended(filled: Service, new_database: NewDatabase) -> None:
    assert "no session with pid 1" in filled.fail(*SAFE, "locks", "--terminate", "1", "--yes")
    other = new_database()
    with holding(other, "SELECT 1") as pid:
        assert f"pid {pid}" in filled.fail(*SAFE, "locks", "--terminate", str(pid), "--yes")
        assert fetch(other, "SELECT 1 FROM pg_stat_activity WHERE pid = :pid", pid=pid)


def test_backup_and_restore(filled: Service, database: URL, server: URL) -> None:
    output = filled.succeed(*SAFE, "backup")
    (file,) = filled.folder.glob("*.dump")
    assert output.splitlines() == [
        f"The backup is {file.name}.",
        "To restore the backup into a new database:",
        f"safe-migrations restore {file.name}",
    ]
    assert file.stat().st_mode & 0o777 == 0o600
    filled.succeed("git", "init", "--quiet")
    assert file.name not in filled.succeed("git", "status", "--short", "--untracked-files=all")
    fetch(database, "DELETE FROM item")
    process = filled.run(*SAFE, "restore", file.name)
    assert process.returncode == 0, process.stderr
    restored = server.set(database=process.stdout.strip())
    try:
        assert fetch(restored, "SELECT name FROM item ORDER BY name") == [("a",), ("b",), ("c",)]
        filled.configure(restored)
        filled.succeed(*SAFE, "state")
    finally:
        run_async(drop_database(at(server), str(restored.database)))


@pytest.fixture
def pending(filled: Service, database: URL) -> Service:
    """A service with revisions to run, of which one finds its table by the settings of the database."""
    fetch(database, "CREATE SCHEMA tenant")
    fetch(database, "CREATE TABLE tenant.thing (at timestamp)")
    fetch(database, f'ALTER DATABASE "{database.database}" SET search_path = public, tenant')
    fetch(database, f'ALTER ROLE postgres IN DATABASE "{database.database}" SET timezone = UTC')
    filled.add_revision("note", *COLUMN)
    filled.add_revision("index", *INDEX)
    filled.add_revision("rewrite", REWRITE)
    filled.add_revision("lock", 'op.execute("LOCK TABLE item IN ACCESS EXCLUSIVE MODE NOWAIT")')
    filled.add_revision("aware", 'op.execute("ALTER TABLE thing ALTER at TYPE timestamptz")')
    return filled


def copies_of(database: URL) -> list[str]:
    """The copies that rehearsals of a database have made; other tests rehearse on the same server."""
    rows = fetch(database, DATABASES, pattern=f"{(database.database or '')[:40]}%rehearsal%")
    return [row.datname for row in rows]


def test_a_rehearsal_reports_what_each_revision_does(pending: Service, database: URL) -> None:
    revisions = json.loads(pending.succeed(*SAFE, "rehearse", "--json"))
    assert [
        (
            revision["revision"],
            {name: modes[-1] for name, modes in revision["locks"].items()},
            revision["rewritten"],
            revision["rows"],
        )
        for revision in revisions
    ] == [
        ("0002_note", {"item": "AccessExclusiveLock"}, [], {"item": 3}),
        ("0003_index", {"item": "ShareUpdateExclusiveLock"}, [], {"item": 3}),
        ("0004_rewrite", {"item": "AccessExclusiveLock"}, ["item"], {"item": 3}),
        ("0005_lock", {"item": "AccessExclusiveLock"}, [], {"item": 3}),
        ("0006_aware", {"thing": "AccessExclusiveLock"}, [], {"thing": 0}),
    ]
    assert revisions[3]["locks"] == {"item": ["AccessExclusiveLock"]}, "the rehearsal itself locks no table"
    assert all(revision["seconds"] > 0 for revision in revisions)
    assert copies_of(database) == []
    assert fetch(database, "SELECT 1 FROM alembic_version WHERE version_num LIKE '00%'") == []


def test_a_rehearsal_that_fails_says_where_and_leaves_nothing(
    filled: Service, database: URL, new_database: NewDatabase
) -> None:
    """On another server's database, here another database of the same one."""
    filled.environment["ORDERS_REHEARSAL_DATABASE_URL"] = as_text(new_database())
    filled.add_revision("bad", 'op.execute("ALTER TABLE item ADD CONSTRAINT short CHECK (length(name) > 1)")')
    sentence = filled.fail(*SAFE, "rehearse")
    assert sentence.startswith(
        "alembic/versions/20300101_0002_bad.py failed on a copy of the database: check constraint"
    )
    assert "the rows" in sentence
    assert sentence.endswith("\nsafe-migrations rehearse")
    assert copies_of(database) == []


def test_a_rehearsal_names_the_revision_that_commits_by_itself(filled: Service) -> None:
    for commit in ('op.execute("COMMIT")', "op.get_bind().commit()"):
        filled.add_revision("table", f'op.execute("CREATE TABLE entry (id int)")\n{commit}')
        filled.add_revision("note", *COLUMN)
        sentence = filled.fail(*SAFE, "rehearse", kind=RevisionError)
        assert "0002_table.py" in sentence
        assert "0003_note" not in sentence
        assert sentence.endswith("\nsafe-migrations rehearse")
        for file in filled.revisions()[1:]:
            (filled.versions / file).unlink()


def test_a_rehearsal_runs_the_backfills_that_a_revision_needs(filled: Service, database: URL) -> None:
    filled.add_revision("note", *COLUMN, declarations='phase = "expand"')
    filled.add_revision(
        "enforce",
        'op.alter_column("item", "note", nullable=False)',
        declarations='phase = "contract"\nrequires_backfill = "item_note"',
    )
    folder = filled.folder / "alembic" / "backfills"
    folder.mkdir(exist_ok=True)
    folder.joinpath("item_note.py").write_text(BACKFILL.format(values="{}"))
    sentence = filled.fail(*SAFE, "rehearse", "--json")
    assert "alembic/backfills/item_note.py:6" in sentence
    assert "rehearse" not in sentence, "one next step"
    folder.joinpath("item_note.py").write_text(BACKFILL.format(values='{"note": item.c.name}'))
    revisions = json.loads(filled.succeed(*SAFE, "rehearse", "--json"))
    assert [revision["revision"] for revision in revisions] == ["0002_note", "0003_enforce"]
    assert "note" not in str(fetch(database, "SELECT column_name FROM information_schema.columns"))


def test_deploy_is_state_backup_upgrade_and_verification(filled: Service, database: URL) -> None:
    models = filled.folder / "models_db.py"
    models.write_text(
        models.read_text().replace("    name: Mapped[str]", "    note: Mapped[str | None]\n    name: Mapped[str]")
    )
    filled.add_revision("note", *COLUMN)
    lines = filled.succeed(*SAFE, "deploy").splitlines()
    (file,) = filled.folder.glob("*.dump")
    assert lines[0] == "State: behind."
    assert lines[1:3] == ["Revisions to run:", "0002 A revision of a test. (20300101_0002_note.py)"]
    assert lines[3] == f"Backup: {file.name}"
    assert lines[4].startswith("Verified: at head")
    assert fetch(database, "SELECT version_num FROM alembic_version") == [("0002_note",)]
    again = filled.succeed(*SAFE, "deploy")
    assert again.startswith("State: at head: ")
    assert list(filled.folder.glob("*.dump")) == [file]
    assert "nothing to rehearse" in filled.succeed(*SAFE, "rehearse")
    assert filled.succeed(*SAFE, "rehearse", "--json") == "[]\n"


def test_deploy_stops_at_the_first_failure_with_the_way_back(filled: Service, database: URL) -> None:
    filled.add_revision("note", *COLUMN)
    filled.add_revision("bad", 'op.execute("SELECT 1 / 0")')
    process = filled.run(*SAFE, "deploy")
    assert process.returncode == RevisionError.exit_status
    (file,) = filled.folder.glob("*.dump")
    ((baseline,),) = fetch(database, "SELECT version_num FROM alembic_version WHERE version_num = '0002_note'")
    assert baseline == "0002_note"
    sentence = process.stderr
    assert "20300101_0003_bad.py:13 failed and was rolled back: division by zero" in sentence
    assert "(alembic/versions/20300101_0002_note.py)" in sentence
    assert "\nalembic downgrade " in sentence
    assert sentence.endswith(f"\nsafe-migrations restore {file.name}\n")


def test_what_hides_the_state_after_a_failed_deploy_does_not_hide_the_failure(filled: Service) -> None:
    """The revision leaves an env.py that can't be loaded again."""
    filled.add_revision(
        "bad",
        """
        from pathlib import Path
        Path("alembic/env.py").write_text("raise RuntimeError('env.py is broken')")
        op.execute("SELECT 1 / 0")
        """,
    )
    message = filled.fail(*SAFE, "deploy", kind=RevisionError)
    (file,) = filled.folder.glob("*.dump")
    assert all(part in message for part in ("division by zero", "env.py is broken", "\nalembic downgrade "))
    assert message.endswith(f"\nsafe-migrations restore {file.name}")


def test_the_way_back_is_shown_whatever_failed(filled: Service) -> None:
    """Here the service's own line in env.py, after the upgrade."""
    with (filled.folder / "alembic" / "env.py").open("a") as file:
        file.write("from pathlib import Path\nif Path('upgraded').exists():\n    raise RuntimeError('of its own')\n")
    filled.add_revision("touch", "from pathlib import Path\nPath('upgraded').touch()")
    process = filled.run(*SAFE, "deploy", "--without-backup")
    assert process.stderr.endswith("\nRuntimeError: of its own\n")
    assert "\nalembic downgrade " in process.stdout
    assert "Backup: none (--without-backup)." in process.stdout
    assert list(filled.folder.glob("*.dump")) == []


def test_backups_at_the_same_time_have_different_names(filled: Service) -> None:
    processes = [filled.start(*SAFE, "backup") for _ in range(2)]
    assert [process.communicate()[1] for process in processes] == [""] * 2
    assert len(list(filled.folder.glob("*.dump"))) == 2


@pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0,
    reason="needs root, to be another user and to hide programs",
)
def test_deploy_in_an_image_that_can_not_make_a_backup(filled: Service, database: URL) -> None:
    """As the rendered image: it has no program of PostgreSQL, and its user can't write into the folder."""
    revision = filled.add_revision("nothing", "pass")
    before = fetch(database, "SELECT version_num FROM alembic_version")
    programs = [tool.path for tool in find_tools("pg_dump", 1)]
    in_image = ("unshare", "--mount", "sh", "-euc", IN_IMAGE, "sh", str(len(programs)), *programs)
    message = filled.fail(*in_image, *SAFE, "deploy", kind=BackupError)
    assert "postgresql-client-18" in message
    advised = message.splitlines()[-1].split()
    assert advised == [*SAFE, "deploy", "--without-backup"]
    assert fetch(database, "SELECT version_num FROM alembic_version") == before
    filled.succeed(*in_image, *advised)
    assert fetch(database, "SELECT version_num FROM alembic_version") == [(revision,)]


def test_deploy_makes_no_backup_of_nothing(service: Service, database: URL) -> None:
    assert "Backup: none, the database is empty." in service.succeed(*SAFE, "deploy")
    assert "item" in tables(database)


def test_deploy_refuses_what_an_upgrade_refuses_and_makes_no_backup(service: Service, database: URL) -> None:
    fetch(database, "CREATE TABLE customer (id int)")
    process = service.run(*SAFE, "deploy")
    assert process.returncode == 5
    assert "has tables but no revision" in process.stderr
    assert list(service.folder.glob("*.dump")) == []


def test_a_database_that_does_not_answer_is_one_sentence(render: Render, server: URL) -> None:
    service = render()
    service.configure(server.set(port=1))
    for command in ("state", "locks", "backup", "rehearse", "deploy"):
        assert "does not answer at 127.0.0.1:1" in service.fail(*SAFE, command)


def test_wrong_usage_ends_with_2(render: Render) -> None:
    service = render()
    for arguments in ((), ("nonsense",), ("restore",), ("locks", "--terminate", "x"), ("deploy", "--yes")):
        assert service.run(*SAFE, *arguments).returncode == 2


def test_without_a_superuser_s_rights(service: Service, new_role: NewRole, new_database: NewDatabase) -> None:
    """The usual split: one role owns the tables and migrates, another one reads and writes, and is in the way."""
    database = new_database()
    owner, application = new_role("LOGIN CREATEDB", "secret"), new_role("LOGIN", "secret")
    fetch(database, f"GRANT CREATE ON SCHEMA public TO {owner}")
    service.configure(database.set(username=owner, password="secret"))
    service.succeed("alembic", "upgrade", "head")
    fetch(database.set(username=owner, password="secret"), f"GRANT SELECT ON item TO {application}")
    service.add_revision("note", *COLUMN)

    async def migrate_beside_the_application() -> None:
        async with connected(at(database.set(username=application, password="secret"))) as connection:
            pid = (await connection.exec_driver_sql("SELECT pg_backend_pid() FROM item")).scalar()
            pid = pid or (await connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one()
            service.environment["MIGRATION_RETRY_WINDOW"] = "2s"
            sentence = service.fail("alembic", "upgrade", "head")
            assert f"blocked by pid {pid} (user {application}, application " in sentence
            refused = service.run(*SAFE, "locks", "--terminate", str(pid), "--yes")
            assert (refused.returncode, "lacks a privilege" in refused.stderr) == (1, True)

    run_async(migrate_beside_the_application())
    row = r"^0002 A revision .* \d\.\d{3}  +ACCESS EXCLUSIVE item  +\d\.\d{3} s "
    assert re.search(row, service.succeed(*SAFE, "rehearse"), re.MULTILINE)
    assert service.run(*SAFE, "deploy").returncode == 8  # the models of this test have no note
    (backup,) = service.folder.glob("*.dump")
    restored = service.succeed(*SAFE, "restore", backup.name).strip()
    run_async(drop_database(at(database), restored))
    fetch(database, f"DROP OWNED BY {owner}, {application}")


def test_a_long_queue_is_shown_once(filled: Service, database: URL) -> None:
    """PostgreSQL names everybody before a session in the queue, which makes as many paths as there are subsets."""

    async def look() -> list[str]:
        async with AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(connected(at(database))) for _ in range(13)]
            for connection in connections:
                await connection.exec_driver_sql("SET lock_timeout = 0")
            await connections[0].exec_driver_sql("LOCK TABLE item")
            lock = "LOCK TABLE item"
            attempts = [asyncio.create_task(connection.exec_driver_sql(lock)) for connection in connections[1:]]
            async with connected(at(database), isolation_level="AUTOCOMMIT") as observer:
                while len((await observer.exec_driver_sql(WAITING)).all()) < len(attempts):
                    await asyncio.sleep(0.02)
            # Other tests use other databases of this server.
            lines = [line for line in filled.succeed(*SAFE, "locks").splitlines() if "LOCK TABLE item" in line]
            for attempt in attempts:
                attempt.cancel()
            await asyncio.wait(attempts)
            return lines

    first, *waiting = run_async(look())
    assert first.startswith("pid ")
    assert len(waiting) == 12
    assert all(line.startswith("└─ pid ") for line in waiting)


def test_a_revision_that_can_not_be_read_is_one_sentence(filled: Service) -> None:
    filled.add_revision("bad", "pass")
    path = filled.versions / "20300101_0002_bad.py"
    path.write_text(path.read_text().replace("depends_on = None", "depends_on ="))
    for command in (("alembic", "upgrade", "head"), (*SAFE, "state"), (*SAFE, "deploy")):
        sentence = filled.fail(*command)
        assert sentence.startswith("alembic/versions/20300101_0002_bad.py:9 can't be read (SyntaxError: invalid syntax")


def test_a_rehearsal_that_is_cancelled_leaves_no_copy(filled: Service, database: URL) -> None:
    filled.add_revision("slow", 'op.execute("SELECT pg_sleep(60)")')
    process = filled.start(*SAFE, "rehearse")
    wait_for(database, SLEEPING)
    process.send_signal(signal.SIGTERM)
    end(process, 130)
    assert copies_of(database) == []


@pytest.fixture
def alone(render: Render) -> Iterator[tuple[Service, URL]]:
    """A service with a revision that lasts, and a server that no other test uses."""
    service = render()
    with throw_away_cluster(find_programs(18)) as cluster:
        service.configure(cluster.url())
        service.succeed("alembic", "upgrade", "head")
        service.add_revision("slow", 'op.execute("SELECT pg_sleep(60)")')
        yield service, cluster.url()


def test_a_rehearsal_that_is_cancelled_while_it_creates_or_drops_its_copy(alone: tuple[Service, URL]) -> None:
    """The server commits both, although the client is gone; here it waits for a replica, or for a lock."""
    service, server = alone
    fetch(server, "ALTER SYSTEM SET synchronous_commit = 'on'")
    fetch(server, "ALTER SYSTEM SET synchronous_standby_names = 'none'")
    fetch(server, "SELECT pg_reload_conf()")
    process = service.start(*SAFE, "rehearse")
    wait_for(server, CREATING)
    interrupt_twice(process)
    fetch(server, "ALTER SYSTEM RESET synchronous_standby_names")
    fetch(server, "SELECT pg_reload_conf()")
    end(process, 130)
    assert fetch(server, DATABASES, pattern="%rehearsal%") == []

    process = service.start(*SAFE, "rehearse", MIGRATION_LOCK_TIMEOUT="1min")
    wait_for(server, SLEEPING)
    ((copy,),) = fetch(server, DATABASES, pattern="%rehearsal%")
    with holding(server, f"COMMENT ON DATABASE {copy} IS 'locked'"):
        fetch(server, f"SELECT pg_cancel_backend(pid) FROM ({SLEEPING})")  # noqa: S608
        wait_for(server, DROPPING)
        interrupt_twice(process)
    end(process, 130)
    assert fetch(server, DATABASES, pattern="%rehearsal%") == []


def interrupt_twice(process: Process) -> None:
    """Send SIGTERM, and Ctrl-C after it, to a process that may end, or may have to wait."""
    for number in (signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.3)


@pytest.mark.thorough("the longest moments are covered")
def test_a_rehearsal_that_is_cancelled_at_any_moment_leaves_no_copy(alone: tuple[Service, URL]) -> None:
    service, server = alone
    for twentieth in range(60):
        process = service.start(*SAFE, "rehearse")
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.3 + twentieth / 20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) in (-signal.SIGTERM, 130)
        assert fetch(server, DATABASES, pattern="%rehearsal%") == []
