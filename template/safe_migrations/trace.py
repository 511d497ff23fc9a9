"""What a revision really does to the tables: the locks that it takes, and what it rewrites, seen while it runs.

See https://www.postgresql.org/docs/current/view-pg-locks.html; a table whose file changes was written anew.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import URL, Connection, event, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from safe_migrations.connection import connected
from safe_migrations.operations import ddl

INTERVAL = 0.002  # seconds between two looks
MODES = (  # from the weakest
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)

# Tables that the transaction itself has made are not seen from outside, and nobody waits for them.
_LOCKS = text("""
    SELECT l.relation::regclass::text AS name, l.mode
    FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE l.pid = :pid AND l.granted AND c.relkind IN ('r', 'p', 'm') AND n.nspname !~ '^pg_'
      AND n.nspname <> 'information_schema' AND c.relname <> 'alembic_version'
""")
_HELD_UP = text("SELECT pg_backend_pid() = ANY(pg_blocking_pids(:pid))")
_FILES = text("""
    SELECT c.oid::regclass::text AS name, pg_relation_filenode(c.oid) AS file
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
""")


@dataclass
class Trace:
    """What one revision did.

    Attributes:
        locks: the modes of locks for each table, from the weakest.
        rewritten: the tables that were written anew.
    """

    locks: dict[str, list[str]] = field(default_factory=dict)
    rewritten: list[str] = field(default_factory=list)

    def add(self, connection: Connection, pid: int) -> None:
        """Note the locks that a session holds now.

        Args:
            connection: another one to its database, in AUTOCOMMIT.
            pid: of the session's process.
        """
        for row in connection.execute(_LOCKS, {"pid": pid}):
            modes = {*self.locks.get(row.name, []), row.mode}
            self.locks[row.name] = sorted(modes, key=MODES.index)


@asynccontextmanager
async def tracing(connection: AsyncConnection, url: URL, env_prefix: str) -> AsyncIterator[Trace]:
    """Note what the connection does: before each commit, and all along for what runs outside a transaction.

    Args:
        connection: the one that runs a revision.
        url: of its database, for two more connections.
        env_prefix: prefix of the service's environment variables.
    """
    trace, done = Trace(), asyncio.Event()
    pid = int(await connection.scalar(select(func.pg_backend_pid())) or 0)
    await connection.rollback()
    async with (
        connected(url, env_prefix, isolation_level="AUTOCOMMIT") as observer,
        connected(url, env_prefix, isolation_level="REPEATABLE READ") as sampler,
    ):
        observe = await observer.run_sync(lambda observer: partial(trace.add, observer, pid))

        def before_commit(_connection: Connection) -> None:
            observe()

        before = await observer.run_sync(_files)
        if before:
            await sampler.execute(ddl("LOCK TABLE %(names)s IN ACCESS SHARE MODE", names=", ".join(before)))
        event.listen(connection.sync_connection, "commit", before_commit)
        sampling = asyncio.create_task(_sample(trace, sampler, pid, done))
        try:
            yield trace
        finally:
            event.remove(connection.sync_connection, "commit", before_commit)
            done.set()
            await sampling
        after = await observer.run_sync(_files)
        trace.rewritten = sorted(name for name in before.keys() & after.keys() if before[name] != after[name])


async def _sample(trace: Trace, sampler: AsyncConnection, pid: int, done: asyncio.Event) -> None:
    """Note the locks of what runs outside a transaction, which are gone with the statement.

    This session keeps a snapshot, and looks at all tables: a concurrent build waits for the one, a drop for the
    other. Once somebody waits, the locks are noted, and this session lets go.
    """
    while not done.is_set():
        held_up = await sampler.scalar(_HELD_UP, {"pid": pid})
        await sampler.run_sync(trace.add, pid)
        if held_up:
            await sampler.rollback()
        with suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), INTERVAL)


def _files(connection: Connection) -> dict[str, int]:
    return {row.name: row.file for row in connection.execute(_FILES)}
