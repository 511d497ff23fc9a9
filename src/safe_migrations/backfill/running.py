"""Running a backfill: workers that do batch after batch, each in a transaction, at a pace that the service can bear."""

import asyncio
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from safe_migrations.backfill.definition import COMMAND, Backfill, is_complete, refuse_unwritten
from safe_migrations.backfill.progress import Progress
from safe_migrations.backfill.queue import Batches
from safe_migrations.backfill.replication import Lag, are_hidden
from safe_migrations.errors import BackfillError, LockedError, MigrationError
from safe_migrations.postgres.connection import connected
from safe_migrations.postgres.database import Database
from safe_migrations.postgres.server_errors import (
    INSUFFICIENT_PRIVILEGE,
    RETRIED,
    explain,
    is_disconnect,
    reason,
    sqlstate,
)
from safe_migrations.postgres.timeouts import duration_text
from safe_migrations.printable import printable

Result = TypeVar("Result")

POLL, WATCH = 0.1, 1.0  # seconds: until other workers may have finished; between measurements of the lag
HIDDEN = "This user may not see the replication lag, so --max-lag has no effect; grant the user pg_monitor."


@dataclass(frozen=True)
class Pace:
    """The pace of a backfill.

    Attributes:
        workers: connections that work at the same time.
        nice_ratio: the pause of a worker after each batch, as a multiple of the batch's duration. As in gh-ost, a busy
            server makes batches longer, and with them the pauses.
        max_lag: the replication lag at which all workers wait, in seconds.
    """

    workers: int = 1
    nice_ratio: float = 1.0
    max_lag: float = 10.0


@dataclass(frozen=True)
class Done:
    """What a run of a backfill did.

    Attributes:
        name: the backfill's.
        already_complete: whether there was nothing to do.
        rows: how many were changed since the backfill began, by all runs and processes.
        seconds: how long this run took.
    """

    name: str
    already_complete: bool
    rows: int
    seconds: float

    def __str__(self) -> str:
        if self.already_complete:
            return f"{self.name} was already complete."
        return f"{self.name} is complete: {self.rows:,} rows in all; this run took {duration_text(self.seconds)}."


async def run_backfill(database: Database, folder: Path, name: str, backfill: Backfill, pace: Pace) -> Done:
    """Run a backfill, or continue it.

    Args:
        database: to work on.
        folder: `alembic/backfills`.
        name: the backfill's.
        backfill: its definition.
        pace: how hard to work.

    Raises:
        MigrationError: it can't be run, or failed; committed batches are kept.
    """
    begun = time.monotonic()
    run = _Run(database, name, backfill, pace)
    try:
        async with connected(database) as control:
            if await run.retried(control, lambda connection: is_complete(connection, backfill, name)):
                return Done(name, True, 0, 0.0)
            refuse_unwritten(folder, name, backfill)
            rows = await run.work(control)
    except ExceptionGroup as group:  # of the worker that failed first, which stopped the other ones
        raise group.exceptions[0] from group
    finally:
        run.progress.clear()
    return Done(name, False, rows, round(time.monotonic() - begun, 3))


class _Run:
    """A run of one backfill in this process."""

    def __init__(self, database: Database, name: str, backfill: Backfill, pace: Pace) -> None:
        self.progress = Progress(name, sys.stderr)
        self._database = database
        self._name = name
        self._pace = pace
        self._timeouts = database.timeouts
        self._batches = Batches(name, backfill)
        self._free = asyncio.Event()  # whether standbys keep up
        self._finished = asyncio.Event()

    async def work(self, control: AsyncConnection) -> int:
        """Do the remaining batches, and return how many rows are done."""
        self.progress.total = await self.retried(control, self._batches.begin)
        self.progress.first = self._batches.rows
        if await self.retried(control, are_hidden):
            print(HIDDEN, file=sys.stderr)
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(self._watch(control))
            await asyncio.gather(*(group.create_task(self._do_batches()) for _ in range(self._pace.workers)))
            self._finished.set()
            await watcher  # not cancelled: a query that is cut off costs the connection
        return self._batches.rows

    async def _do_batches(self) -> None:
        """Do batch after batch, until the workers of all processes have finished."""
        async with connected(self._database) as connection:
            while True:
                await self._free.wait()
                begun = time.monotonic()
                step = await self.retried(connection, self._batches.step)
                if step == "finished":
                    return
                took = time.monotonic() - begun
                await asyncio.sleep(POLL if step == "wait" else took * self._pace.nice_ratio)

    async def _watch(self, connection: AsyncConnection) -> None:
        """Stop the workers while the replication lag is too high, and show the progress."""
        lag = Lag()
        while not self._finished.is_set():
            standby, seconds = await self.retried(connection, lag.measure)
            note = ""
            if seconds <= self._pace.max_lag:
                self._free.set()
            else:
                self._free.clear()
                note = f"; waiting, because the standby {printable(standby)} is {duration_text(seconds)} behind"
            self.progress.show(self._batches.rows, note)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._finished.wait(), WATCH)

    async def retried(self, connection: AsyncConnection, function: Callable[[Connection], Result]) -> Result:
        """Call a function in a transaction, and retry it while it does not get its locks."""
        until, tries = time.monotonic() + self._timeouts.retry_window, 0
        while True:
            try:
                async with connection.begin():
                    return await connection.run_sync(function)
            except (SQLAlchemyError, ConnectionError, TimeoutError) as error:
                tries += 1
                left = until - time.monotonic()
                if sqlstate(error) not in RETRIED or left <= 0:
                    raise self._failure(error) from error
                self.progress.show(self._batches.rows, f"; waiting for a lock (try {tries})")
                await asyncio.sleep(min(self._timeouts.pause(tries), left))

    def _failure(self, error: OSError | SQLAlchemyError) -> MigrationError:
        file, state = f"alembic/backfills/{self._name}.py", sqlstate(error)
        if isinstance(error, OSError | DBAPIError) and (is_disconnect(error) or state == INSUFFICIENT_PRIVILEGE):
            return explain(error, self._database)
        kept = "This batch was rolled back; the batches before it are kept."
        command = f"then continue:\n{COMMAND} {shlex.quote(self._name)}"
        if state in RETRIED:
            return LockedError(
                f"The backfill {self._name} did not get its locks within MIGRATION_RETRY_WINDOW "
                f"({duration_text(self._timeouts.retry_window)}). {kept} End the blocking session, which "
                f"safe-migrations locks shows, {command}"
            )
        return BackfillError(
            f"The backfill {self._name} failed: {reason(error)}. {kept} Correct {file}, or the rows that it changes, "
            f"{command}"
        )
