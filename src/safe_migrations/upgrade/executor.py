"""Applying revisions: each in a transaction of its own, with a short lock timeout and many tries.

While a statement waits for a lock, later sessions queue behind it. So each try gives up soon, lets the queue pass, and
is repeated, as with_lock_retries of GitLab and lock_timeout_retries of strong_migrations do.
See https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
"""

import asyncio
import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any

from alembic import context
from alembic.runtime.migration import RevisionStep
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import PendingRollbackError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from safe_migrations.ddl.schemas import create_version_schema
from safe_migrations.ddl.step_records import StepRecords
from safe_migrations.ddl.steps import RecordedSteps
from safe_migrations.errors import MigrationError
from safe_migrations.postgres.catalog import Session, blockers
from safe_migrations.postgres.connection import reset_settings
from safe_migrations.postgres.server_errors import (
    DEADLOCK_DETECTED,
    QUERY_CANCELED,
    RETRIED,
    is_disconnect,
    sqlstate,
)
from safe_migrations.postgres.several_statements import several_statements
from safe_migrations.postgres.timeouts import ReportTimer, Timeouts, duration_text
from safe_migrations.postgres.transaction import RevisionTransaction
from safe_migrations.service import Service
from safe_migrations.upgrade.failures import Failure, blocked_by, file_of, log_fields, progress, running_name
from safe_migrations.upgrade.steps import record_steps, refuse_exit, refuse_unready, reload

log = logging.getLogger(__name__)

_SET_TRANSACTION = re.compile(r"\s*SET\s+(?:LOCAL\s+)?TRANSACTION", re.IGNORECASE)  # must come before any query
_ENDED = (
    "%s has ended its transaction itself (COMMIT, ROLLBACK, or commit() of the connection): its changes and the new "
    "revision are not committed together"
)
_CANCEL = text("SELECT pg_cancel_backend(:pid)")
_LONGEST_WAIT = text("""
    SELECT extract(epoch FROM max(clock_timestamp() - waitstart))::float8 FROM pg_locks
    WHERE NOT granted AND pid <> :pid AND :pid = ANY(pg_blocking_pids(pid))
""")


def run_migrations(connection: Connection, **options: Any) -> None:
    """Let Alembic run the command."""
    context.configure(connection=connection, **options)
    with several_statements(connection), context.begin_transaction():
        create_version_schema(context.get_context())
        context.run_migrations()


class Executor:
    """Applies the revisions of one run."""

    def __init__(
        self, migration: AsyncConnection, pid: int, control: AsyncConnection, timeouts: Timeouts, service: Service
    ) -> None:
        """Use two connections.

        Args:
            migration: applies the revisions.
            control: reads which sessions block the other connection; in AUTOCOMMIT.
        """
        self._service = service
        self._records = StepRecords("", {})  # of the completed steps, once they are read
        self._steps_of_revision: RecordedSteps | None = None
        self._is_between_steps = False  # whether a step is being committed
        self._applied: list[str] = []  # the files of the committed revisions
        self._migration = migration
        self._pid = pid
        self._control = control
        self._timeouts = timeouts
        self._remaining: deque[RevisionStep] = deque()
        self._running = False  # whether a revision has begun; before that, Alembic reads its version table
        self._left_transaction = False  # whether it can't be rolled back as a whole
        self._transaction: RevisionTransaction | None = None  # of the revision that runs
        self._is_noted = True  # whether noting waits for the next statement
        self._driver_connection: Any = None  # the connection of asyncpg
        self._statement_begun: float | None = None
        self._in_function = False  # whether the revision's own code runs
        self._has_deadline = False  # whether the server is to end each statement by its timeout
        self._ended_for_others = False  # whether the try was ended because another session waited for it
        self._begun = 0.0  # of the first try
        self._tries = 0
        self._blocking: list[Session] = []

    async def apply(self, steps: list[RevisionStep], options: dict[str, Any]) -> None:
        """Apply revisions, and retry those that do not get a lock.

        Raises:
            BackfillError: a revision needs a backfill that is not complete.
            ConnectionFailedError: the connection was lost.
            LockedError: a lock was not free within the retry window.
            RevisionError: a revision failed.
        """
        self._remaining.extend(steps)
        self._records = await self._control.run_sync(StepRecords.read, options)
        self._begun = time.monotonic()
        while self._remaining:
            try:
                await self._try(options)
            except Exception as caught:
                error = _origin(caught)
                with suppress(SQLAlchemyError):  # where the connection is lost, the server rolls back
                    await self._migration.rollback()
                if not isinstance(error, Exception):
                    raise error from None
                if isinstance(error, MigrationError) and not self._running:
                    if self._applied:
                        error.args = (f"{progress(self._applied, self._remaining[0])} {error}",)
                    raise error from None
                retried = sqlstate(error) in RETRIED or (self._ended_for_others and sqlstate(error) == QUERY_CANCELED)
                if self._left_transaction or not retried:
                    raise self._failure().explained(error) from error
                await self._pause(error)

    async def _try(self, options: dict[str, Any]) -> None:
        self._blocking = []
        self._running = self._left_transaction = self._ended_for_others = self._has_deadline = False
        self._statement_begun = None
        self._transaction = self._steps_of_revision = None
        self._tries += 1
        ended = asyncio.Event()
        watcher = asyncio.create_task(self._watch(ended))
        try:
            await self._migration.run_sync(self._run, options)
        finally:
            ended.set()
            await asyncio.wait([watcher])  # not cancelled: a query that is cut off costs the connection, and the lock

    def _run(self, connection: Connection, options: dict[str, Any]) -> None:
        listeners: dict[str, Callable[..., None]] = {
            "set_connection_execution_options": self._note_autocommit,
            "before_cursor_execute": self._note_statement,
            "after_cursor_execute": self._note_end_of_statement,
            "commit": self._note_commit,
        }
        for name, listener in listeners.items():
            event.listen(connection, name, listener)
        try:
            run_migrations(connection=connection, fn=lambda *_: self._steps(connection), **options)
        finally:
            for name, listener in listeners.items():
                event.remove(connection, name, listener)

    def _note_autocommit(self, connection: Connection, options: dict[str, Any]) -> None:
        suspended = self._transaction is not None and self._transaction.is_suspended
        if options.get("isolation_level") == "AUTOCOMMIT" and not (suspended or self._is_between_steps):
            self._left_transaction = True

    def _note_statement(self, connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if not (self._is_noted or self._left_transaction or _SET_TRANSACTION.match(statement)):
            self._is_noted = True  # before the transaction is noted, because that takes statements
            self._transaction = RevisionTransaction(connection, self._timeouts)
        # The revision has a timeout of its own; set_config() may have the name as a parameter.
        if any(word in statement.lower() for word in ("statement_timeout", "set_config")):
            self._has_deadline = False
        self._driver_connection = connection.connection.driver_connection
        self._statement_begun = time.monotonic()

    def _note_end_of_statement(self, *_: Any) -> None:
        self._statement_begun = None

    def _note_commit(self, _connection: Connection) -> None:
        # After its own commit, a revision may do other work than statements.
        if not self._in_function or self._is_between_steps:
            self._statement_begun = time.monotonic()

    def _steps(self, connection: Connection) -> Iterator[RevisionStep]:
        while self._remaining:
            step = self._remaining[0]
            self._running = False
            refuse_unready(connection, step, self._records)
            self._running = True
            if self._tries > 1:
                reload(step, os.path.abspath(context.script.dir))
            elif self._applied:
                connection.connection.run_async(reset_settings)
            self._observe(step, connection)
            self._has_deadline = True
            begun = time.monotonic()
            yield step
            # Alembic asks for the next step after it has committed this one.
            self._statement_begun = self._steps_of_revision = None
            seconds, verb = time.monotonic() - begun, "Applied" if step.is_upgrade else "Undid"
            log.info("%s %s in %s.", verb, file_of(step), duration_text(seconds), extra=self._fields(seconds))
            self._applied.append(file_of(self._remaining.popleft()))
            self._begun, self._tries, self._left_transaction = time.monotonic(), 1, False

    def _observe(self, step: RevisionStep, connection: Connection) -> None:
        """Note whether the revision's function ends in the transaction in which it began."""
        refuse_exit(step)
        self._steps_of_revision = record_steps(step, self._records, self._between_steps)
        function = step.migration_fn

        @wraps(function)  # Alembic logs its name
        def run(**arguments: Any) -> None:
            self._forget_transaction(connection)
            self._in_function = True
            try:
                function(**arguments)
                self._note_left(connection)
            except Exception as error:
                if (transaction := self._transaction) is not None:
                    self._left_transaction |= transaction.was_ended
                    suspended = transaction.is_suspended or self._is_between_steps
                    if not (suspended or is_disconnect(_origin(error))):
                        self._left_transaction |= not transaction.has_failed(connection)
                raise
            finally:
                self._is_noted, self._in_function, self._is_between_steps = True, False, False

        step.migration_fn = run

    def _forget_transaction(self, connection: Connection) -> None:
        """Note that the next statement is the first one of a transaction."""
        RevisionTransaction.forget(connection)
        self._transaction, self._is_noted = None, False

    def _note_left(self, connection: Connection) -> None:
        """Note whether the revision, or a step, ends in another transaction than that in which it began."""
        if (transaction := self._transaction) is not None and not transaction.is_current(connection):
            if not self._left_transaction:
                log.warning(_ENDED, file_of(self._remaining[0]))
            self._left_transaction = True

    @contextmanager
    def _between_steps(self, connection: Connection) -> Iterator[None]:
        """Commit a step; the next one is tried, and fails, by itself."""
        self._note_left(connection)
        self._is_between_steps = True
        yield
        connection.connection.run_async(reset_settings)
        self._forget_transaction(connection)
        self._is_between_steps = self._left_transaction = False
        self._statement_begun, self._has_deadline = None, True
        self._begun, self._tries = time.monotonic(), 1

    async def _watch(self, ended: asyncio.Event) -> None:
        """Note the blocking sessions while they block, because later they are unknown; report what takes long."""
        since, timer = time.monotonic(), ReportTimer(1)
        interval = regular = min(0.5, self._timeouts.lock_timeout / 2)
        while not await _within(ended, interval):
            interval = regular
            self._give_up_silent_server()
            blocking: list[Session] = []
            with suppress(SQLAlchemyError, OSError):
                blocking = await self._control.run_sync(blockers, self._pid)
                self._blocking = blocking or self._blocking
            if self._begun > since:  # another revision has begun
                since, timer = self._begun, ReportTimer(1)
            seconds = time.monotonic() - since
            # A try that waits for a lock ends soon, and is reported then; a concurrent build waits longer.
            ends_soon = bool(blocking) and seconds < self._timeouts.lock_timeout + 1
            # A concurrent build blocks neither reads nor writes, so that a VACUUM may wait for it.
            transaction = self._transaction
            builds = transaction is not None and transaction.is_suspended and not transaction.is_blocking
            if blocking and not builds:
                left = self._timeouts.lock_timeout - await self._longest_wait_of_others()
                interval = min(regular, max(left, 0.05))
                if left <= 0:  # again and again: a cancel that arrives between two statements ends none
                    self._ended_for_others = True
                    with suppress(SQLAlchemyError, OSError):
                        await self._control.execute(_CANCEL, {"pid": self._pid})
            if self._remaining and not ends_soon and timer.is_due():
                running = running_name(self._remaining[0], self._steps_of_revision)
                parts = (running, duration_text(seconds), blocked_by(self._blocking))
                log.info("%s has been running for %s%s", *parts, extra=self._fields(seconds))

    def _give_up_silent_server(self) -> None:
        """Close a connection on which the server should have ended a statement by its timeout, and has not."""
        begun, deadline = self._statement_begun, self._timeouts.deadline
        if self._has_deadline and begun and deadline and time.monotonic() - begun > deadline:
            self._driver_connection.terminate()

    async def _longest_wait_of_others(self) -> float:
        """How long a session has waited for this one, over all locks, in seconds."""
        with suppress(SQLAlchemyError, OSError):
            return float(await self._control.scalar(_LONGEST_WAIT, {"pid": self._pid}) or 0)
        return 0.0

    async def _pause(self, error: Exception) -> None:
        left = self._begun + self._timeouts.retry_window - time.monotonic()
        if left <= 0:
            raise self._failure().gave_up(error) from error
        pause = min(self._timeouts.pause(self._tries), left)
        log.warning(
            "%s %s (try %d) and was rolled back, so that other sessions continue; next try in %s; gives up in %s%s",
            running_name(self._remaining[0], self._steps_of_revision),
            "met a deadlock" if sqlstate(error) == DEADLOCK_DETECTED else "did not get a lock",
            self._tries,
            *(duration_text(pause), duration_text(left), blocked_by(self._blocking)),
            extra=self._fields(time.monotonic() - self._begun),
        )
        await asyncio.sleep(pause)

    def _fields(self, seconds: float) -> dict[str, Any]:
        return log_fields(self._remaining[0], self._steps_of_revision, seconds, self._blocking)

    def _failure(self) -> Failure:
        return Failure(
            self._remaining[0],
            self._steps_of_revision,
            self._running,
            self._left_transaction,
            self._transaction,
            self._applied,
            self._tries,
            self._blocking,
            self._timeouts,
            self._service,
        )


def _origin(error: BaseException) -> BaseException:
    """The error before SQLAlchemy's complaint of a lost connection, at the end of an autocommit block."""
    while isinstance(error, PendingRollbackError) and error.__context__ is not None:
        error = error.__context__
    return error


async def _within(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
