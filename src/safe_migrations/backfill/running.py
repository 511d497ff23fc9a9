"""Running a backfill: workers that do batch after batch, each in a transaction, at a pace that the service can bear."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from safe_migrations.backfill.definition import Backfill, backfill_command, is_complete, refuse_unwritten
from safe_migrations.backfill.progress import Progress
from safe_migrations.backfill.queue import Batches
from safe_migrations.backfill.replication import Lag, are_hidden
from safe_migrations.errors import BackfillError, LockedError, MigrationError
from safe_migrations.postgres.catalog import Session, blockers
from safe_migrations.postgres.connection import connected, session_pid
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
HIDDEN = (
    "The user lacks the privilege to see the replication lag, so --max-lag has no effect. Grant pg_monitor to the user."
)


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

    Raises:
        MigrationError: it can't be run, or failed; committed batches are kept.
    """
    begun = time.monotonic()
    run = _Run(database, folder, name, backfill, pace)
    try:
        async with connected(database) as control:
            rows = await run.work(control)
    except ExceptionGroup as group:  # of the worker that failed first, which stopped the other ones
        error: Exception = group
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        raise error from group
    finally:
        run.progress.clear()
    if rows is None:
        return Done(name, True, 0, 0.0)
    return Done(name, False, rows, round(time.monotonic() - begun, 3))


class _Run:
    """A run of one backfill in this process."""

    def __init__(self, database: Database, folder: Path, name: str, backfill: Backfill, pace: Pace) -> None:
        self.progress = Progress(name, sys.stderr)
        self._database = database
        self._folder = folder
        self._name = name
        self._pace = pace
        self._timeouts = database.timeouts
        self._batches = Batches(name, backfill, os.path.relpath(folder / f"{name}.py"))
        self._free = asyncio.Event()  # whether standbys keep up
        self._finished = asyncio.Event()
        self._has_begun = False
        self._pids: dict[AsyncConnection, int] = {}  # of the workers' sessions
        self._waiting: set[AsyncConnection] = set()  # which did not get a lock yet
        self._blocking: dict[AsyncConnection, list[Session]] = {}  # the sessions that block them, or have blocked them

    async def work(self, control: AsyncConnection) -> int | None:
        """Do the remaining batches.

        Returns:
            How many rows are done; None if the backfill was complete.
        """
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(self._watch(control))
            rows = await group.create_task(self._begin())
            self._finished.set()
            await watcher  # not cancelled: a query that is cut off costs the connection
        return rows

    async def _begin(self) -> int | None:
        async with self._session() as connection:
            if await self.retried(connection, lambda begun: is_complete(begun, self._batches.backfill, self._name)):
                return None
            refuse_unwritten(self._folder, self._name, self._batches.backfill)
            self.progress.total = await self.retried(connection, self._batches.begin)
            self.progress.first = self._batches.rows
            self._has_begun = True
            if await self.retried(connection, are_hidden):
                print(HIDDEN, file=sys.stderr)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._do_batches(connection))
                for _ in range(self._pace.workers - 1):
                    group.create_task(self._work_beside())
        return self._batches.rows

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[AsyncConnection]:
        """A connection of a worker, whose waits are watched."""
        async with connected(self._database) as connection:
            self._pids[connection] = await session_pid(connection)
            yield connection

    async def _work_beside(self) -> None:
        async with self._session() as connection:
            await self._do_batches(connection)

    async def _do_batches(self, connection: AsyncConnection) -> None:
        """Do batch after batch, until the workers of all processes have finished."""
        while True:
            await self._free.wait()
            begun = time.monotonic()
            step = await self.retried(connection, self._batches.step)
            if step == "finished":
                return
            took = time.monotonic() - begun
            await asyncio.sleep(POLL if step == "wait" else took * self._pace.nice_ratio)

    async def _watch(self, control: AsyncConnection) -> None:
        """Stop the workers while the replication lag is too high, note what blocks them, and show the progress."""
        lag, behind = Lag(), ""
        interval = min(WATCH, self._timeouts.lock_timeout / 2)  # a try that waits for a lock is seen before it ends
        while not self._finished.is_set():
            standby, seconds = await self.retried(control, lag.measure)
            if seconds <= self._pace.max_lag:
                self._free.set()
                behind = ""
            else:
                self._free.clear()
                behind = f"; waiting, because the standby {printable(standby)} is {duration_text(seconds)} behind"
            await self.retried(control, self._note_blocking)
            self._show(behind)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._finished.wait(), interval)

    def _note_blocking(self, control: Connection) -> None:
        """Note the blocking sessions while they block, because later they are unknown."""
        for connection, pid in list(self._pids.items()):  # a worker may come meanwhile
            blocking = [session for session in blockers(control, pid) if session.pid not in self._pids.values()]
            self._blocking[connection] = blocking or self._blocking.get(connection, [])

    def _show(self, note: str = "") -> None:
        """Show the progress, or what the workers wait for."""
        if self._waiting:
            self.progress.wait(f"waiting for a lock{self._blocked_by()}", self._blocking_sessions())
        elif self._has_begun:
            self.progress.show(self._batches.rows, note)

    def _blocked_by(self) -> str:
        # Without the durations, which differ each time.
        texts = [str(replace(session, age=None)) for session in self._blocking_sessions()]
        return f"; blocked by {'; '.join(texts)}" if texts else ""

    def _blocking_sessions(self) -> list[Session]:
        sessions = {session.pid: session for pid in self._waiting for session in self._blocking.get(pid, [])}
        return list(sessions.values())

    async def retried(self, connection: AsyncConnection, function: Callable[[Connection], Result]) -> Result:
        """Call a function in a transaction, and retry it while it does not get its locks."""
        until, tries = time.monotonic() + self._timeouts.retry_window, 0
        while True:
            try:
                async with connection.begin():
                    result = await connection.run_sync(function)
                self._waiting.discard(connection)
                self._blocking.pop(connection, None)
                return result
            except (SQLAlchemyError, ConnectionError, TimeoutError) as error:
                tries += 1
                left = until - time.monotonic()
                if sqlstate(error) not in RETRIED or left <= 0:
                    raise self._failure(error) from error
                self._waiting.add(connection)
                self._show()
                await asyncio.sleep(min(self._timeouts.pause(tries), left))

    def _failure(self, error: OSError | SQLAlchemyError) -> MigrationError:
        state = sqlstate(error)
        if isinstance(error, OSError | DBAPIError) and (is_disconnect(error) or state == INSUFFICIENT_PRIVILEGE):
            return explain(error, self._database)
        kept = "This batch was rolled back; the batches before it are kept."
        command = backfill_command(self._name)
        if state in RETRIED:
            return LockedError(
                f"The backfill {self._name} did not get its locks within {duration_text(self._timeouts.retry_window)} "
                f"(MIGRATION_RETRY_WINDOW{self._blocked_by()}). {kept} To see the blocking sessions:\n"
                f"safe-migrations locks\nWhen no session blocks, continue:\n{command}"
            )
        return BackfillError(
            f"The backfill {self._name} failed: {reason(error)}. {kept} Correct {self._batches.file}, or the rows that "
            f"it changes, then continue:\n{command}"
        )
