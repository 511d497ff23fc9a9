"""Running the pending revisions on a copy of the database, and telling what each of them does to it."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

from alembic.util import CommandError
from sqlalchemy import Connection, func, select

from safe_migrations.errors import MigrationError
from safe_migrations.operate.backup import backup, restore
from safe_migrations.postgres.catalog import find_table
from safe_migrations.postgres.connection import Database, connected, parse_database_url, reason
from safe_migrations.postgres.databases import drop_database
from safe_migrations.postgres.timeouts import REPORT, duration_text
from safe_migrations.trace.recorder import tracing
from safe_migrations.trace.scratch import complete_backfills, upgrade
from safe_migrations.upgrade.project import Project

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rehearsed:
    """What one revision did to the copy.

    Attributes:
        revision: its id.
        seconds: how long it took, as long as nobody else used the tables.
        locks: the modes of locks for each table, from the weakest.
        rewritten: the tables that were written anew.
        rows: of those tables, and of those that were locked.
    """

    revision: str
    seconds: float
    locks: dict[str, list[str]]
    rewritten: list[str]
    rows: dict[str, int]


async def rehearse(project: Project, revisions: Sequence[str], done: list[Rehearsed]) -> None:
    """Copy the database, run revisions on the copy, and drop it.

    Args:
        project: the service's.
        revisions: the pending ones, in order.
        done: takes what each revision did, also where a later one fails.

    Raises:
        MigrationError: the database can't be copied, or a backfill or a revision failed on the copy.
    """
    async with _copy(project.database, _server(project)) as copy:
        for revision in revisions:
            await complete_backfills(project, project.script.get_revision(revision), copy)
            done.append(await _run(project, revision, copy))


def _server(project: Project) -> Database:
    """A database of the server on which migrations are rehearsed: that of the migrations by default."""
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
            raise MigrationError(f"The copy for the rehearsal can't be made ({where} says where): {error}") from error
    try:
        yield server.named(name)
    finally:
        await drop_database(server, name)


async def _run(project: Project, revision: str, copy: Database) -> Rehearsed:
    async with connected(copy) as connection, tracing(connection, copy) as trace:
        begun = time.monotonic()
        progress = asyncio.create_task(_progress(revision))
        try:
            await connection.run_sync(upgrade, project, revision)
        except CommandError:
            raise
        except Exception as error:
            raise MigrationError(
                f"On the copy of the database, the revision {revision} failed: {reason(error)}. The database itself is "
                "as it was. Correct the revision, then rehearse again."
            ) from error
        finally:
            progress.cancel()
        seconds = time.monotonic() - begun
    async with connected(copy, isolation_level="AUTOCOMMIT") as connection:
        rows = await connection.run_sync(_rows, {*trace.locks, *trace.rewritten})
    return Rehearsed(revision, round(seconds, 3), trace.locks, trace.rewritten, rows)


async def _progress(revision: str) -> None:
    """Say what runs, if it takes more than a second."""
    begun = time.monotonic()
    await asyncio.sleep(1)
    while True:
        log.info("%s has been running for %s", revision, duration_text(time.monotonic() - begun))
        await asyncio.sleep(REPORT)


def _rows(connection: Connection, names: set[str]) -> dict[str, int]:
    tables = {name: find_table(connection, name) for name in sorted(names)}
    return {
        name: connection.scalar(select(func.count()).select_from(table)) or 0
        for name, table in tables.items()
        if table is not None
    }
