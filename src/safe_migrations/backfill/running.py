"""Running a backfill: workers that do batch after batch, in a transaction each, at a pace that others can bear."""

import asyncio
import random
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
from safe_migrations.errors import MigrationError
from safe_migrations.postgres.connection import (
    INSUFFICIENT_PRIVILEGE,
    RETRIED,
    Database,
    connected,
    explain,
    is_disconnect,
    reason,
    sqlstate,
)
from safe_migrations.postgres.timeouts import LONGEST_PAUSE, duration_text

Result = TypeVar("Result")

POLL, WATCH = 0.1, 1.0  # seconds: until other workers may have finished; between looks at standbys
HIDDEN = "How far standbys are behind is hidden from this user, so that --max-lag has no effect: grant it pg_monitor."
_RANDOM = random.SystemRandom()


@dataclass(frozen=True)
class Pace:
    """How hard to work.

    Attributes:
        workers: connections that work at the same time.
        nice_ratio: how long each of them pauses after a batch, in times of what the batch took. As in gh-ost: on a
            busy server batches take longer, and so do the pauses, of which fixed ones would become a smaller part.
        max_lag: how far standbys may be behind before all of them wait, in seconds.
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
        rows: that were changed since the backfill was begun, by all runs and processes.
        seconds: that this run took.
    """

    name: str
    already_complete: bool
    rows: int
    seconds: float

    def __str__(self) -> str:
        if self.already_complete:
            return f"{self.name} was complete already."
        return f"{self.name} is complete: {self.rows:,} rows, the last of them in {duration_text(self.seconds)}."


async def run_backfill(database: Database, folder: Path, name: str, backfill: Backfill, pace: Pace) -> Done:
    """Run a backfill to its end, from where it is.

    Args:
        database: to work on.
        folder: `alembic/backfills`.
        name: the backfill's.
        backfill: its definition.
        pace: how hard to work.

    Raises:
        MigrationError: it can't be run, or did not come to its end; what is committed stays.
    """
    begun = time.monotonic()
    run = _Run(database, name, backfill, pace)
    try:
        async with connected(database) as control:
            if await run.retried(control, lambda connection: is_complete(connection, backfill, name)):
                return Done(name, True, 0, 0.0)
            refuse_unwritten(folder, name, backfill)
            rows = await run.work(control)
    except ExceptionGroup as group:  # of the worker that failed first; it made the others stop
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
        self._policy = database.policy
        self._batches = Batches(name, backfill)
        self._free = asyncio.Event()  # whether standbys keep up
        self._done = asyncio.Event()

    async def work(self, control: AsyncConnection) -> int:
        """Do all that is left, and return how many rows are done."""
        self.progress.total = await self.retried(control, self._batches.begin)
        self.progress.first = self._batches.rows
        if await self.retried(control, are_hidden):
            print(HIDDEN, file=sys.stderr)
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(self._watch(control))
            await asyncio.gather(*(group.create_task(self._do_batches()) for _ in range(self._pace.workers)))
            self._done.set()
            await watcher  # not cancelled: a query that is cut off costs the connection
        return self._batches.rows

    async def _do_batches(self) -> None:
        """Do batch after batch, until all workers of all processes have come to the end."""
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
        """Let the workers wait while a standby is too far behind, and show the progress."""
        lag = Lag()
        while not self._done.is_set():
            standby, seconds = await self.retried(connection, lag.measure)
            note = ""
            if seconds <= self._pace.max_lag:
                self._free.set()
            else:
                self._free.clear()
                note = f"; waits, because the standby {standby} is {duration_text(seconds)} behind"
            self.progress.show(self._batches.rows, note)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), WATCH)

    async def retried(self, connection: AsyncConnection, function: Callable[[Connection], Result]) -> Result:
        """Call a function in a transaction, again while it does not get its locks, as revisions are applied."""
        until = time.monotonic() + self._policy.retry_window
        number = 0
        while True:
            number += 1
            try:
                async with connection.begin():
                    return await connection.run_sync(function)
            except (SQLAlchemyError, ConnectionError, TimeoutError) as error:
                left = until - time.monotonic()
                if sqlstate(error) not in RETRIED or left <= 0:
                    raise MigrationError(self._failure(error)) from error
                longest = min(self._policy.lock_timeout * 2 ** min(number, 10), LONGEST_PAUSE, left)
                self.progress.show(self._batches.rows, f"; waits for a lock (try {number})")
                await asyncio.sleep(longest * _RANDOM.uniform(0.5, 1))

    def _failure(self, error: OSError | SQLAlchemyError) -> str:
        file, state = f"alembic/backfills/{self._name}.py", sqlstate(error)
        if isinstance(error, OSError | DBAPIError) and (is_disconnect(error) or state == INSUFFICIENT_PRIVILEGE):
            return explain(error, self._database)
        what, advice = f"failed: {reason(error)}", f"Correct {file}, or the rows that it is about"
        if state in RETRIED:
            what = f"did not get its locks within MIGRATION_RETRY_WINDOW ({duration_text(self._policy.retry_window)})"
            advice = "See who is in the way: safe-migrations locks"
        return (
            f"The backfill {self._name} {what}. What it was doing is rolled back, and the batches before stay. "
            f"{advice}; then run {COMMAND} {self._name} again: it goes on there."
        )
