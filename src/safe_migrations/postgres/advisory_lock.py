"""One migration at a time: advisory locks of PostgreSQL, polled.

Rails locks its migrations like this (activerecord/lib/active_record/migration.rb). It is polled because a session that
waits inside pg_advisory_lock() holds a snapshot, which CREATE INDEX CONCURRENTLY of the lock's holder waits for.
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

from safe_migrations.errors import MigrationError
from safe_migrations.postgres.catalog import Session, advisory_lock_holders
from safe_migrations.postgres.timeouts import duration_text

log = logging.getLogger(__name__)

POLL = 0.2  # seconds
REPORT = 10.0  # seconds between two reports of waiting
_RANDOM = random.SystemRandom()


def lock_key(*names: str | None) -> int:
    """The key of an advisory lock, which no other program is likely to use.

    Args:
        names: what is locked: the version table, and for what. PostgreSQL keeps the locks of each database apart.
    """
    digest = hashlib.sha256("\0".join(["safe_migrations", *(name or "" for name in names)]).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@asynccontextmanager
async def advisory_lock(connection: AsyncConnection, key: int, wait: float) -> AsyncIterator[None]:
    """Hold an advisory lock of the connection's session.

    Args:
        connection: in AUTOCOMMIT; nothing that takes long runs on it.
        key: the lock's.
        wait: for how long to try, in seconds.

    Raises:
        MigrationError: somebody else holds it for longer.
    """
    await connection.run_sync(acquire, key, wait)
    try:
        yield
    finally:
        if not await connection.run_sync(release, key):
            log.warning("The connection that held a lock was lost on the way; the other one has kept other runs out.")


def acquire(
    connection: Connection, key: int, wait: float, take: Callable[[int], Function[Any]] = func.pg_try_advisory_lock
) -> None:
    """Take an advisory lock, and say who holds it while it is not free.

    Args:
        connection: whose session, or transaction, takes it.
        key: the lock's.
        wait: for how long to try, in seconds.
        take: the function of PostgreSQL that tries.

    Raises:
        MigrationError: somebody else holds it for longer.
    """
    begun = time.monotonic()
    report = begun
    while not connection.scalar(select(take(key))):
        now = time.monotonic()
        if now >= report or now - begun >= wait:
            holders = "; ".join(_describe(holder) for holder in advisory_lock_holders(connection, key))
            if now - begun >= wait:
                raise MigrationError(_gave_up(holders, wait))
            left = duration_text(wait - (now - begun))
            log.info("Waiting for another migration, for %s at most: %s", left, holders or "it is just ending")
            report = now + REPORT
        time.sleep(POLL * _RANDOM.uniform(0.5, 1.5))


def release(connection: Connection, key: int) -> bool:
    """Release an advisory lock of the session.

    Args:
        connection: whose session took it.
        key: the lock's.

    Returns:
        Whether the session still held it.
    """
    try:
        return bool(connection.scalar(select(func.pg_advisory_unlock(key))))
    except SQLAlchemyError:  # the connection is gone
        return False


def _describe(holder: Session) -> str:
    since = f", since {holder.since}" if holder.since else ""
    return f"pid {holder.pid}, application {holder.application or 'without a name'}{since}"


def _gave_up(holders: str, wait: float) -> str:
    return (
        f"Another migration of this database still runs after {duration_text(wait)} ({holders or 'just ending'}): "
        "nothing was changed. When it has ended, run the same command again; MIGRATION_LOCK_WAIT is how long to wait, "
        "and safe-migrations locks shows what it waits for."
    )
