"""Running the pending revisions on a copy of the database, and telling what each of them does to it."""

import asyncio
import logging
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, func, select

from safe_migrations.backfill.definition import load_backfill
from safe_migrations.backfill.running import Pace, run_backfill
from safe_migrations.errors import MigrationError
from safe_migrations.operate.backup import backup, restore
from safe_migrations.postgres.catalog import find_table
from safe_migrations.postgres.connection import connected, reason
from safe_migrations.postgres.databases import drop_database
from safe_migrations.postgres.timeouts import duration_text
from safe_migrations.trace.recorder import tracing
from safe_migrations.upgrade.executor import REPORT
from safe_migrations.upgrade.phases import required_backfills

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


async def rehearse(
    config_file: Path, revisions: Sequence[str], url: URL, server: URL, env_prefix: str, done: list[Rehearsed]
) -> None:
    """Copy the database, run revisions on the copy, and drop it.

    Args:
        config_file: alembic.ini.
        revisions: the pending ones, in order.
        url: the database.
        server: any database of the server for the copy.
        env_prefix: prefix of the service's environment variables.
        done: takes what each revision did, also where a later one fails.

    Raises:
        MigrationError: the database can't be copied, or a backfill or a revision failed on the copy.
    """
    directory = ScriptDirectory.from_config(Config(config_file))
    async with _copy(url, server, env_prefix) as copy:
        for revision in revisions:
            await complete_backfills(directory, directory.get_revision(revision), copy, env_prefix)
            done.append(await _run(config_file, revision, copy, env_prefix))


@asynccontextmanager
async def _copy(url: URL, server: URL, env_prefix: str) -> AsyncIterator[URL]:
    name = f"{(url.database or '')[:40]}_rehearsal_{token_hex(4)}"
    with TemporaryDirectory(prefix="rehearsal-") as folder:
        dump = Path(folder) / "dump"
        await backup(url, env_prefix, dump)
        try:
            await restore(server, env_prefix, dump, name, owners=False)
        except MigrationError as error:
            raise MigrationError(
                f"The copy for the rehearsal can't be made ({env_prefix}_REHEARSAL_DATABASE_URL says where): {error}"
            ) from error
    try:
        yield server.set(database=name)
    finally:
        await drop_database(server, env_prefix, name)


async def _run(config_file: Path, revision: str, copy: URL, env_prefix: str) -> Rehearsed:
    async with connected(copy, env_prefix) as connection, tracing(connection, copy, env_prefix) as trace:
        begun = time.monotonic()
        progress = asyncio.create_task(_progress(revision))
        try:
            await connection.run_sync(upgrade, config_file, revision)
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
    async with connected(copy, env_prefix, isolation_level="AUTOCOMMIT") as connection:
        rows = await connection.run_sync(_rows, {*trace.locks, *trace.rewritten})
    return Rehearsed(revision, round(seconds, 3), trace.locks, trace.rewritten, rows)


async def _progress(revision: str) -> None:
    """Say what runs, if it takes more than a second."""
    begun = time.monotonic()
    await asyncio.sleep(1)
    while True:
        log.info("%s has been running for %s", revision, duration_text(time.monotonic() - begun))
        await asyncio.sleep(REPORT)


async def complete_backfills(directory: ScriptDirectory, script: Script, url: URL, env_prefix: str) -> None:
    """Run the backfills that a revision needs, on a database that nobody else uses.

    Args:
        directory: of the revisions.
        script: the revision.
        url: of the database.
        env_prefix: prefix of the service's environment variables.

    Raises:
        MigrationError: a backfill can't be run, for instance because nobody has written its values yet.
    """
    folder = Path(directory.dir, "backfills")
    for name in required_backfills(script):
        await run_backfill(url, env_prefix, folder, name, load_backfill(folder, name), Pace(nice_ratio=0))


def upgrade(connection: Connection, config_file: Path, revision: str) -> None:
    """Upgrade a database on a connection to it.

    Args:
        connection: not in a transaction.
        config_file: alembic.ini.
        revision: the destination.
    """
    config = Config(config_file, cmd_opts=Namespace(x=None))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _rows(connection: Connection, names: set[str]) -> dict[str, int]:
    tables = {name: find_table(connection, name) for name in sorted(names)}
    return {
        name: connection.scalar(select(func.count()).select_from(table)) or 0
        for name, table in tables.items()
        if table is not None
    }
