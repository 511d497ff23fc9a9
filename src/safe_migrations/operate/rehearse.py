"""Run the pending revisions on a copy of the database, and report what each revision does."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

from alembic.script import Script
from alembic.util import CommandError
from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import DBAPIError

from safe_migrations.backfill.definition import load_backfill, required_backfills
from safe_migrations.errors import BackupError, MigrationError, RefusedError, RevisionError
from safe_migrations.operate.backup import backup, restore
from safe_migrations.operate.status import read_report
from safe_migrations.postgres.catalog import find_table
from safe_migrations.postgres.connection import connected
from safe_migrations.postgres.creation import drop_database
from safe_migrations.postgres.database import Database, parse_database_url
from safe_migrations.postgres.program_runs import report_progress
from safe_migrations.postgres.server_errors import VIOLATIONS, duplicates_query, reason, sqlstate
from safe_migrations.postgres.timeouts import duration_text
from safe_migrations.trace.copies import complete_backfills, upgrade, verify
from safe_migrations.trace.lock_times import TracedStep
from safe_migrations.trace.recorder import Trace, tracing
from safe_migrations.upgrade.preconditions import refuse_unacknowledged
from safe_migrations.upgrade.project import Project
from safe_migrations.upgrade.revision_names import number_and_message
from safe_migrations.upgrade.states import AT_HEAD, BEHIND, DRIFT, FRESH

log = logging.getLogger(__name__)

_SETTINGS = text("""
    SELECT split_part(setting, '=', 1) AS name, substr(setting, strpos(setting, '=') + 1) AS value
    FROM pg_db_role_setting, unnest(setconfig) AS setting
    WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user))
    ORDER BY setrole
""")
_SET = text("SELECT set_config(:name, :value, false)")
_KEEP = text("SELECT format('ALTER DATABASE %I SET %I FROM CURRENT', current_database(), CAST(:name AS text))")
_NO_WORKERS = text("SET max_parallel_workers_per_gather = 0")  # each worker would lock all partitions once more


@dataclass(frozen=True)
class Rehearsed:
    """What one revision did to the copy.

    Attributes:
        revision: its id.
        name: its number and message.
        file: the name of its file.
        seconds: how long the revision took, without other sessions and without the time of the trace itself.
        locks: the lock modes on each table, from the weakest.
        rewritten: the rewritten tables.
        rows: the number of rows of each rewritten or locked table.
        steps: the time, the locks and the scans of each step; a revision without steps is one.
    """

    revision: str
    name: str
    file: str
    seconds: float
    locks: dict[str, list[str]]
    rewritten: list[str]
    rows: dict[str, int]
    steps: list[TracedStep]

    @classmethod
    def of(cls, script: Script, trace: Trace, rows: dict[str, int]) -> "Rehearsed":
        """What a revision did, by its trace."""
        seconds = round(sum(step.seconds for step in trace.steps), 3)
        name, file = number_and_message(script), Path(script.path).name
        return cls(script.revision, name, file, seconds, trace.locks, trace.rewritten, rows, trace.steps)


def pending_revisions(project: Project) -> list[Script]:
    """The pending revisions of the database, in order.

    Raises:
        RefusedError: in its state, the revisions can't run.
    """
    report = read_report(project)
    if report.state not in (FRESH, BEHIND, AT_HEAD, DRIFT):
        raise RefusedError(f"{report.meaning} {report.next}", report.exit_status)
    return list(project.script.get_revisions([str(revision["revision"]) for revision in report.pending]))


async def rehearse(project: Project, revisions: Sequence[Script], rehearsed: list[Rehearsed]) -> None:
    """Copy the database, run revisions on the copy, and drop it.

    Args:
        rehearsed: receives what each revision did, also if a later revision fails.

    Raises:
        NotConfirmedError: the danger of a revision is not acknowledged; nothing was copied.
        BackupError: the database can't be copied.
        BackfillError: a backfill failed on the copy.
        RevisionError: a revision failed on the copy.
    """
    refuse_unacknowledged(revisions)
    for name in sorted({name for script in revisions for name in required_backfills(script)}):
        load_backfill(project.backfills, name)
    async with _copy(project.database, rehearsal_server(project)) as copy:
        for script in revisions:
            await complete_backfills(project, script, copy)
            rehearsed.append(await _run(project, script, copy))


def rehearsal_server(project: Project) -> Database:
    """A database of the server for copies and empty databases; by default the database itself."""
    variable = project.service.variable("REHEARSAL_DATABASE_URL")
    text = project.service.variables.get(variable)
    if text is None:
        return project.database
    url = parse_database_url(text, variable)
    return Database(url.set(database=url.database or project.database.name), project.service)


@asynccontextmanager
async def _copy(database: Database, server: Database) -> AsyncIterator[Database]:
    name = f"{database.name[:40]}_rehearsal_{token_hex(4)}"
    with TemporaryDirectory(prefix="rehearsal-") as folder:
        dump = Path(folder) / "dump"
        await backup(database, dump)
        try:
            await restore(server, dump, name, owners=False)
        except MigrationError as error:
            where = database.service.variable("REHEARSAL_DATABASE_URL")
            raise BackupError(
                f"The database could not be copied ({where} sets the server of the copy): {error}"
            ) from error
    try:
        await _copy_settings(database, server.named(name))
        yield server.named(name)
    finally:
        await drop_database(server, name)


async def _copy_settings(database: Database, copy: Database) -> None:
    """Give the copy what ALTER DATABASE and ALTER ROLE … IN DATABASE set, such as search_path, which no dump has."""
    async with connected(database, isolation_level="AUTOCOMMIT") as connection:
        settings = (await connection.execute(_SETTINGS)).all()
    async with connected(copy, isolation_level="AUTOCOMMIT") as connection:
        for name, value in settings:
            with suppress(DBAPIError):  # which only a superuser may set
                await connection.execute(_SET, {"name": name, "value": value})
                await connection.exec_driver_sql(await connection.scalar(_KEEP, {"name": name}))


async def _run(project: Project, script: Script, copy: Database) -> Rehearsed:
    revision, file = script.revision, os.path.relpath(script.path)
    async with connected(copy, isolation_level="AUTOCOMMIT") as watcher:
        async with (
            connected(copy, bounded=False) as connection,
            tracing(connection, watcher, copy.service.version_table) as trace,
        ):
            progress = asyncio.create_task(
                report_progress(
                    lambda seconds: log.info(
                        "%s has been running for %s",
                        *(file, duration_text(seconds)),
                        extra={"revision": revision, "seconds": seconds},
                    )
                )
            )
            try:
                with _explained(file):
                    await connection.run_sync(upgrade, project, revision)
            finally:
                progress.cancel()
        with _explained(file):
            await watcher.run_sync(verify, project, revision, trace)
        rows = await watcher.run_sync(_rows, {*trace.locks, *trace.rewritten})
    return Rehearsed.of(script, trace, rows)


@contextmanager
def _explained(file: str) -> Iterator[None]:
    """Say which revision failed, and what to do."""
    try:
        yield
    except CommandError:
        raise
    except Exception as error:
        correct = "the rows that violate the constraint" if sqlstate(error) in VIOLATIONS else "the revision"
        query = duplicates_query(error)
        then = f", which this query lists in psql (safe-migrations db-shell):\n{query}\nThen" if query else ", then"
        raise RevisionError(
            f"{file} failed on a copy of the database: {reason(error)}. The database itself was not changed. "
            f"Correct {correct}{then} run:\nsafe-migrations rehearse"
        ) from error


def _rows(connection: Connection, names: set[str]) -> dict[str, int]:
    connection.execute(_NO_WORKERS)
    tables = {name: find_table(connection, name) for name in sorted(names)}
    return {
        name: connection.scalar(select(func.count()).select_from(table)) or 0
        for name, table in tables.items()
        if table is not None
    }
