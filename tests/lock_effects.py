"""What a statement or a revision blocks, scans and rewrites, measured on a real PostgreSQL.

A statement runs in a transaction that remains open, as in a long migration, while other sessions read its locks and try
to read and to write. A lock that is held during a scan or a rewrite is a danger.
See https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
"""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from textwrap import dedent, indent
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from safe_migrations.postgres.lock_modes import MODES

Result = TypeVar("Result")

SHORT = "10ms"  # how long a reader or a writer waits for a lock
PATIENCE = 10.0  # seconds for what must happen

READERS, WRITERS = "readers", "writers"
NOBODY: frozenset[str] = frozenset()
EVERYBODY = frozenset({READERS, WRITERS})

_LOCKS = """
    SELECT array_agg(mode) AS modes FROM pg_locks
    WHERE pid = {pid} AND relation = to_regclass('{table}') AND locktype = 'relation' AND granted
"""
_WORK = "SELECT pg_relation_filenode('{table}'), pg_stat_get_xact_numscans('{table}'::regclass)"
_WAITS = "SELECT 1 FROM pg_stat_activity WHERE pid = {pid} AND wait_event_type = 'Lock'"
_SCHEMA = """
    SELECT attrelid::regclass::text, attname::text, format_type(atttypid, atttypmod), attnotnull
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
    WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.relname <> 'alembic_version'
      AND attnum > 0 AND NOT attisdropped
    UNION ALL SELECT enumtypid::regtype::text, enumlabel::text, 'enum', true FROM pg_enum
    ORDER BY 1, 2
"""
_REVISION = """
import sqlalchemy as sa
from safe_migrations.operations import op

revision, down_revision, phase = {revision!r}, {after!r}, {phase!r}


def upgrade():
{upgrade}


def downgrade():
{downgrade}
"""
# What the runner does with revisions, without all that it does around them.
_ENVIRONMENT = """
from alembic import context
from safe_migrations.upgrade.executor import run_migrations
from safe_migrations.postgres.connection import connected, run_async
from support import at


async def run(url):
    async with connected(at(url)) as connection:
        await connection.run_sync(lambda it: run_migrations(connection=it, transaction_per_migration=True))


if context.is_offline_mode():
    context.configure(url="postgresql://", as_sql=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    run_async(run(context.config.attributes["url"]))
"""


@dataclass(frozen=True)
class Effect:
    """What a statement does to a table while its transaction is open.

    Attributes:
        lock: the strongest mode that it holds; None for none.
        stops: which of readers and writers have to wait.
        scans: whether it has read the whole table.
        rewrites: whether it has rewritten the table, to another file.
    """

    lock: str | None
    stops: frozenset[str] = NOBODY
    scans: bool = False
    rewrites: bool = False


class Session:
    """A connection whose transaction goes on until `commit` or `rollback`."""

    def __init__(self, runner: asyncio.Runner, connection: AsyncConnection) -> None:
        """Use a connection of the runner's loop."""
        self._runner = runner
        self._connection = connection
        self.pid = int(self.run("SELECT pg_backend_pid()")[0][0])
        self.rollback()

    def run(self, *statements: str) -> list[Any]:
        """Run statements, and return the rows of the last one."""
        return self._runner.run(self.running(*statements))

    async def running(self, *statements: str) -> list[Any]:
        """The same, to be run beside something else."""
        rows: list[Any] = []
        for statement in statements:
            result = await self._connection.exec_driver_sql(statement)
            rows = list(result) if result.returns_rows else []
        return rows

    def error(self, *statements: str) -> str | None:
        """The class of asyncpg's error that one of the statements ends with; the transaction is undone either way."""
        try:
            self.run(*statements)
        except DBAPIError as error:
            return error_name(error)
        finally:
            self.rollback()
        return None

    def commit(self) -> None:
        """End the transaction."""
        self._runner.run(self._connection.commit())

    def rollback(self) -> None:
        """Undo the transaction."""
        self._runner.run(self._connection.rollback())


class Bench:
    """A database, and sessions that block each other."""

    def __init__(self, runner: asyncio.Runner, url: URL, stack: ExitStack) -> None:
        """Use a database.

        Args:
            runner: of the loop that all sessions belong to.
            url: of the database.
            stack: closes the sessions that are opened now.
        """
        self._runner = runner
        self._stack = stack
        self.url = url
        self._control = self.session(isolation_level="AUTOCOMMIT")
        self._other = self.session(lock_timeout=SHORT)
        self._measured = self.session()

    @contextmanager
    def emptied(self) -> Iterator["Bench"]:
        """The database without tables; sessions that are opened in the block are closed after it."""
        self.run("RESET ALL", "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        with ExitStack() as self._stack:
            yield self

    def session(self, *, isolation_level: str = "READ COMMITTED", **settings: str) -> Session:
        """One more session; the settings are PostgreSQL's."""
        engine = _engine(self.url, isolation_level, **{"lock_timeout": f"{PATIENCE:g}s", **settings})
        connection = self._runner.run(_connect(engine))
        self._stack.callback(lambda: self._runner.run(connection.close()))
        return Session(self._runner, connection)

    def run(self, *statements: str) -> list[Any]:
        """Run statements, each in a transaction of its own, and return the rows of the last one."""
        return self._control.run(*statements)

    def error(self, *statements: str) -> str | None:
        """The class of asyncpg's error that one of the statements ends with, each in a transaction of its own."""
        return self._control.error(*statements)

    def stops(self, statement: str) -> bool:
        """Whether a statement of another session waits for a lock; it is rolled back."""
        try:
            self._other.run(statement)
        except DBAPIError as error:
            if error_name(error) != "LockNotAvailableError":
                raise
            return True
        finally:
            self._other.rollback()
        return False

    def stopped(self, table: str) -> frozenset[str]:
        """Which of readers and writers can't use a table now."""
        traffic = {READERS: "SELECT 1 FROM {table} LIMIT 1", WRITERS: "DELETE FROM {table} WHERE false"}
        return frozenset(who for who, statement in traffic.items() if self.stops(statement.format(table=table)))

    def lock(self, session: Session, table: str) -> str | None:
        """The strongest lock that a session holds on a table."""
        ((modes,),) = self.run(_LOCKS.format(pid=session.pid, table=table))
        return max(modes, key=MODES.index) if modes else None

    def schema(self) -> list[Any]:
        """The columns of the tables, and the values of the enums."""
        return self.run(_SCHEMA)

    @contextmanager
    def open(self, *statements: str) -> Iterator[Session]:
        """Statements in a transaction that is open inside the block, and then rolled back."""
        session = self.session()
        session.run(*statements)
        try:
            yield session
        finally:
            session.rollback()

    @contextmanager
    def behind(self, blocker: str, *statements: str) -> Iterator[Session]:
        """Statements that wait for the transaction of a blocker, and end after it; with BEGIN in one transaction."""
        waiter = self.session(isolation_level="AUTOCOMMIT")
        with self.open(blocker):
            task = self._runner.run(_start(waiter.running(*statements)))
            self._runner.run(self._until_waiting(waiter.pid))
            yield waiter
        self._runner.run(_finish(task))

    async def _until_waiting(self, pid: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while not await self._control.running(_WAITS.format(pid=pid)):
                await asyncio.sleep(0.001)

    def effect(self, statement: str, *, table: str = "item") -> Effect:
        """What a statement does to a table while its transaction is open; it is then undone."""
        session = self._measured
        try:
            ((file, scans),) = session.run(_WORK.format(table=table))
            session.run(statement)
            ((file_after, scans_after),) = session.run(_WORK.format(table=table))
            lock = self.lock(session, table)
            return Effect(lock, self.stopped(table), scans_after > scans, file_after != file)
        finally:
            session.rollback()

    def together(self, *works: Coroutine[Any, Any, Any]) -> list[str | None]:
        """The class of error that each of the works ends with, all of them begun at once; None for success."""

        async def run() -> list[Any]:
            return await asyncio.gather(*works, return_exceptions=True)

        return [error_name(end) if isinstance(end, BaseException) else None for end in self._runner.run(run())]


class History:
    """Revision files, and a database that they are applied to."""

    def __init__(self, folder: Path, url: URL) -> None:
        """Use a folder; several histories may share one, each with a database of its own."""
        self.versions = folder / "versions"
        self.versions.mkdir(parents=True, exist_ok=True)
        folder.joinpath("env.py").write_text(_ENVIRONMENT)
        self._config = Config()
        self._config.set_main_option("script_location", str(folder))
        self._config.set_main_option("path_separator", "os")
        self._config.attributes["url"] = url

    def add(
        self,
        revision: str,
        upgrade: str,
        downgrade: str = "pass",
        *,
        after: str | None = None,
        phase: str | None = None,
    ) -> None:
        """Write a revision file, with these bodies of its functions."""
        upgrade, downgrade = (indent(dedent(body).strip(), "    ") for body in (upgrade, downgrade))
        self.versions.joinpath(f"{revision}.py").write_text(
            _REVISION.format(revision=revision, after=after, phase=phase, upgrade=upgrade, downgrade=downgrade)
        )

    def upgrade(self, revision: str = "head") -> None:
        """Upgrade the database."""
        command.upgrade(self._config, revision)

    def downgrade(self, revision: str = "base") -> None:
        """Downgrade the database."""
        command.downgrade(self._config, revision)

    def sql(self) -> str:
        """The SQL of an upgrade from base to head, made without a database."""
        self._config.output_buffer = StringIO()
        command.upgrade(self._config, "base:head", sql=True)
        return self._config.output_buffer.getvalue()

    @property
    def script(self) -> ScriptDirectory:
        """The files, as Alembic reads them."""
        return ScriptDirectory.from_config(self._config)


def error_name(error: BaseException) -> str:
    """The class of asyncpg's error, under SQLAlchemy's.

    Args:
        error: what was raised; one that does not come from PostgreSQL is raised again.
    """
    if not isinstance(error, DBAPIError) or error.orig is None:
        raise error
    return type(error.orig.__cause__ or error.orig).__name__


@cache
def _engine(url: URL, isolation_level: str, **settings: str) -> AsyncEngine:
    """One for all sessions that are alike: what SQLAlchemy asks on an engine's first connection takes longer."""
    connect_args = {"server_settings": settings}
    return create_async_engine(url, poolclass=NullPool, isolation_level=isolation_level, connect_args=connect_args)


async def _connect(engine: AsyncEngine) -> AsyncConnection:
    return await engine.connect()


async def _start(work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
    return asyncio.create_task(work)


async def _finish(task: "asyncio.Task[Result]") -> Result:
    return await asyncio.wait_for(task, PATIENCE)
