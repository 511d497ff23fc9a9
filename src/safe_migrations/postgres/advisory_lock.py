"""One migration at a time: advisory locks of PostgreSQL, polled.

Rails locks its migrations the same way (activerecord/lib/active_record/migration.rb). The lock is polled because a
session that waits in pg_advisory_lock() holds a snapshot, for which the holder's CREATE INDEX CONCURRENTLY would wait.
See https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
"""

import hashlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.functions import Function

from safe_migrations.errors import LockedError
from safe_migrations.postgres.catalog import Session, advisory_lock_holders
from safe_migrations.postgres.timeouts import ReportTimer, duration_text
from safe_migrations.printable import printable

log = logging.getLogger(__name__)

POLL = 0.2  # seconds
_RANDOM = random.SystemRandom()


def lock_key(*names: str | None) -> int:
    """The key of an advisory lock, which no other program is likely to use.

    Args:
        names: what is locked, such as a version table, and for which purpose. Each database has its own locks.
    """
    digest = hashlib.sha256("\0".join(["safe_migrations", *(name or "" for name in names)]).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@asynccontextmanager
async def advisory_lock(connection: AsyncConnection, key: int, wait: float) -> AsyncIterator[None]:
    """Hold an advisory lock of the connection's session.

    Args:
        connection: in AUTOCOMMIT; nothing that takes long runs on it.
        wait: how long to try, in seconds.

    Raises:
        LockedError: another session held the lock for longer.
    """
    await connection.run_sync(acquire, key, wait)
    try:
        yield
    finally:
        if not await connection.run_sync(release, key):
            log.warning("One of two connections that hold the migration lock was lost; the other one kept the lock.")


def acquire(
    connection: Connection, key: int, wait: float, take: Callable[[int], Function[Any]] = func.pg_try_advisory_lock
) -> None:
    """Take an advisory lock; while another session holds it, report that session.

    Args:
        wait: how long to try, in seconds.
        take: PostgreSQL's function that tries to take the lock.

    Raises:
        LockedError: another session held the lock for longer.
    """
    until, timer = time.monotonic() + wait, ReportTimer(0)
    while not connection.scalar(select(take(key))):
        left = until - time.monotonic()
        if timer.is_due() or left <= 0:
            sessions = advisory_lock_holders(connection, key)
            holders = "; ".join(map(_describe, sessions)) or "now ending"
            if left <= 0:
                raise LockedError(
                    f"Another migration of this database is still running after {duration_text(wait)} ({holders}). "
                    "Nothing was changed. When that migration has ended, run the same command again. To wait longer, "
                    "raise MIGRATION_LOCK_WAIT. To see what that migration waits for:\nsafe-migrations locks"
                )
            fields = {"blockers": [session.fields for session in sessions]}
            log.info("Waiting up to %s for another migration: %s", duration_text(left), holders, extra=fields)
        time.sleep(POLL * _RANDOM.uniform(0.5, 1.5))


def release(connection: Connection, key: int) -> bool:
    """Release an advisory lock of the session.

    Returns:
        Whether the session still held it.
    """
    try:
        return bool(connection.scalar(select(func.pg_advisory_unlock(key))))
    except SQLAlchemyError:  # the connection is gone
        return False


def _describe(holder: Session) -> str:
    since = f", since {holder.since}" if holder.since else ""
    return printable(f"pid {holder.pid}, application {holder.application or 'without a name'}{since}")
