"""Applying revisions: each in a transaction of its own, with a short lock timeout and many tries.

While a statement waits for a lock, everybody who comes later waits behind it. So a try gives up soon, lets the others
pass, and comes back: the way of GitLab's with_lock_retries and of strong_migrations' lock_timeout_retries.
See https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
"""

import asyncio
import logging
import os
import random
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from alembic import context
from alembic.runtime.migration import RevisionStep
from sqlalchemy import Connection, event
from sqlalchemy.exc import PendingRollbackError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from safe_migrations.backfill.definition import refuse_incomplete, required_backfills
from safe_migrations.ddl.indexes import REPEATABLE
from safe_migrations.errors import MigrationError
from safe_migrations.postgres.catalog import Session, blockers
from safe_migrations.postgres.connection import (
    DEADLOCK_DETECTED,
    INSUFFICIENT_PRIVILEGE,
    QUERY_CANCELED,
    READ_ONLY,
    RETRIED,
    VIOLATIONS,
    is_disconnect,
    reason,
    sqlstate,
)
from safe_migrations.postgres.timeouts import LONGEST_PAUSE, REPORT, Policy, duration_text
from safe_migrations.service import Service

log = logging.getLogger(__name__)

_RANDOM = random.SystemRandom()


def run_migrations(**options: Any) -> None:
    """Let Alembic do what it was asked for.

    Args:
        options: what `context.configure` takes.
    """
    context.configure(**options)
    with context.begin_transaction():
        context.run_migrations()


def refuse_unready(connection: Connection, step: RevisionStep) -> None:
    """Stop before a revision that needs a backfill to be complete, if it is not; only now can the database tell.

    Args:
        connection: the one that applies the revision; what reading begins on it is ended.
        step: to apply next.

    Raises:
        MigrationError: the backfill is not complete.
    """
    if step.is_upgrade and required_backfills(step.revision):
        callers = connection.in_transaction()
        refuse_incomplete(connection, step.revision, Path(context.script.dir, "backfills"))
        if not callers:
            connection.rollback()


class Application:
    """Applies the revisions of one run.

    Attributes:
        applied: the files of the revisions that are committed, in order.
    """

    def __init__(
        self, migration: AsyncConnection, pid: int, control: AsyncConnection, policy: Policy, service: Service
    ) -> None:
        """Use two connections.

        Args:
            migration: applies.
            pid: of its process on the server.
            control: sees what the other one waits for; in AUTOCOMMIT.
            policy: the bounds.
            service: whose database it is, to name its variables in an error.
        """
        self._service = service
        self.applied: list[str] = []
        self._migration = migration
        self._pid = pid
        self._control = control
        self._policy = policy
        self._remaining: deque[RevisionStep] = deque()
        self._running = False  # whether a revision has begun, or Alembic still looks at its version table
        self._left_transaction = False  # whether it can't be rolled back as a whole
        self._begun = 0.0  # its first try
        self._tries = 0
        self._blocking: list[Session] = []

    async def apply(self, steps: list[RevisionStep], options: dict[str, Any]) -> None:
        """Apply revisions, and try again while a lock is not free.

        Args:
            steps: what to apply, in order.
            options: what `context.configure` takes.

        Raises:
            MigrationError: a revision failed, and left no trace; those before it stay.
        """
        self._remaining.extend(steps)
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
                    raise MigrationError(f"{error} {self._report()}") from None
                retried = sqlstate(error) in RETRIED
                if self._left_transaction or not retried:
                    raise MigrationError(self._failure(error)) from error
                await self._pause(error)

    async def _try(self, options: dict[str, Any]) -> None:
        self._blocking = []
        self._running = self._left_transaction = False
        self._tries += 1
        done = asyncio.Event()
        watcher = asyncio.create_task(self._watch(done))
        try:
            await self._migration.run_sync(self._run, options)
        finally:
            done.set()
            await asyncio.wait([watcher])  # not cancelled: a query that is cut off costs the connection, and the lock

    def _run(self, connection: Connection, options: dict[str, Any]) -> None:
        event.listen(connection, "set_connection_execution_options", self._note_autocommit)
        try:
            run_migrations(connection=connection, fn=lambda *_: self._steps(connection), **options)
        finally:
            event.remove(connection, "set_connection_execution_options", self._note_autocommit)

    def _note_autocommit(self, connection: Connection, options: dict[str, Any]) -> None:
        if options.get("isolation_level") == "AUTOCOMMIT" and not connection.info.get(REPEATABLE):
            self._left_transaction = True

    def _steps(self, connection: Connection) -> Iterator[RevisionStep]:
        while self._remaining:
            self._running = False
            refuse_unready(connection, self._remaining[0])
            self._running = True
            yield self._remaining[0]
            # Asked for the next one, after the commit of the last.
            self.applied.append(_file(self._remaining.popleft()))
            self._begun, self._tries, self._left_transaction = time.monotonic(), 1, False

    async def _watch(self, done: asyncio.Event) -> None:
        """See who is in the way while it is so, because afterwards nobody knows; and report what takes long."""
        begun = since = time.monotonic()
        report = 1.0
        while not await _within(done, min(0.5, self._policy.lock_timeout / 2)):
            now_blocking: list[Session] = []
            with suppress(SQLAlchemyError):
                now_blocking = await self._control.run_sync(blockers, self._pid)
                self._blocking = now_blocking or self._blocking
            if since != max(begun, self._begun):  # another revision has begun
                since, report = max(begun, self._begun), 1.0
            elapsed = time.monotonic() - since
            # A try that waits for a lock ends soon, and says so by itself; a concurrent build waits longer.
            soon = bool(now_blocking) and elapsed < self._policy.lock_timeout + 1
            if self._remaining and elapsed >= report and not soon:
                log.info("%s has been running for %s%s", _file(self._remaining[0]), duration_text(elapsed), self._way())
                report = elapsed + REPORT

    async def _pause(self, error: Exception) -> None:
        left = self._begun + self._policy.retry_window - time.monotonic()
        if left <= 0:
            raise MigrationError(self._gave_up()) from error
        longest = min(self._policy.lock_timeout * 2 ** min(self._tries, 10), LONGEST_PAUSE)
        pause = min(longest * _RANDOM.uniform(0.5, 1), left)
        happened = "met a deadlock" if sqlstate(error) == DEADLOCK_DETECTED else "did not get a lock"
        log.warning(
            "%s %s (try %d) and was rolled back, so that others go on; next try in %s, for %s at most%s",
            *(_file(self._remaining[0]), happened, self._tries, duration_text(pause), duration_text(left), self._way()),
        )
        await asyncio.sleep(pause)

    def _way(self) -> str:
        return f"; in the way: {'; '.join(map(str, self._blocking))}" if self._blocking else ""

    def _gave_up(self) -> str:
        pid = self._blocking[0].pid if self._blocking else "PID"
        return (
            f"{_file(self._remaining[0])} did not get its locks (tries: {self._tries}, each of "
            f"{duration_text(self._policy.lock_timeout)} at most, within MIGRATION_RETRY_WINDOW, "
            f"{duration_text(self._policy.retry_window)}{self._way()}). Each try was rolled back. {self._report()} Let "
            f"that transaction end, or end it (safe-migrations locks --terminate {pid}); then run the same "
            "command again."
        )

    def _failure(self, error: Exception) -> str:
        step, what = self._remaining[0], reason(error)
        if is_disconnect(error):
            return (
                f"The connection to PostgreSQL was lost while {_file(step)} ran ({what}): the server rolls back what "
                f"was not committed. {self._report()} When PostgreSQL answers, run the same command again."
            )
        if self._left_transaction:
            return (
                f"{_place(step, error)} failed: {what}. It had left its transaction (autocommit_block), so what it did "
                f"may stay, and is not tried again: look at the database before you run it again. {self._report()}"
            )
        advice = {
            INSUFFICIENT_PRIVILEGE: "Grant the user what it needs, or migrate as the tables' owner "
            f"({self._service.migration_url})",
            READ_ONLY: f"Migrate on the server that accepts writes ({self._service.migration_url})",
            QUERY_CANCELED: "If it took longer than MIGRATION_STATEMENT_TIMEOUT "
            f"({duration_text(self._policy.statement_timeout)}), raise that, or give it less to do",
            **dict.fromkeys(VIOLATIONS, "Put the rows right that are in the way"),
        }.get(sqlstate(error) or "", "Correct the revision" if self._running else "Put that right")
        where = _place(step, error) if self._running else "The look at Alembic's version table"
        return (
            f"{where} failed and was rolled back: {what}. {self._report()} {advice}, then run the same command again: "
            "it goes on there."
        )

    def _report(self) -> str:
        if not self.applied:
            return "Nothing ran before it."
        return f"Done before, and that stays: {', '.join(self.applied)}."


def _origin(error: BaseException) -> BaseException:
    """What went wrong before SQLAlchemy complained of the lost connection, at the end of an autocommit block."""
    while isinstance(error, PendingRollbackError) and error.__context__ is not None:
        error = error.__context__
    return error


async def _within(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


def _file(step: RevisionStep) -> str:
    return os.path.relpath(step.revision.path)


def _place(step: RevisionStep, error: Exception) -> str:
    """The revision's file, and the line of it that failed where that is known."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [str(frame.lineno) for frame in frames if frame.filename == step.revision.path]
    return ":".join([_file(step), *lines[-1:]])
