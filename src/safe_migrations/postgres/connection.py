"""Connecting to a database, with the settings of a session that migrates."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import Connection, event, func, select
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from safe_migrations.errors import ConfigurationError, ConnectionFailedError
from safe_migrations.postgres.compiled_statements import CompiledStatements
from safe_migrations.postgres.database import Database, split_url
from safe_migrations.postgres.server_errors import explain, reason, sqlstate
from safe_migrations.postgres.timeouts import CONNECT_TIMEOUT, MARGIN, ReportTimer, duration_text

log = logging.getLogger(__name__)

Result = TypeVar("Result")

APPLICATION_NAME = "alembic"

_TEMPORARY = ("53300", "57P03")  # too many connections, the server is starting
# Seconds: after a minute without an answer, the connection is lost. The system's own limits are hours.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 60_000}
_common_options: dict[str, Any] = {}  # execution options of all connections, see share_compiled_statements
_KEEPALIVE_OF_SERVER = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}


def run_async(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine from synchronous code, even if an event loop is running.

    Args:
        coroutine: what to run; in a thread and a loop of its own where this thread's loop is busy.
    """
    try:
        caller = asyncio.current_task()
    except RuntimeError:
        return asyncio.run(coroutine)
    tasks: list[asyncio.Task[Any]] = []

    async def run() -> Result:
        tasks.extend(asyncio.all_tasks())
        return await coroutine

    handled = 0
    with ThreadPoolExecutor(max_workers=1) as executor:
        future = executor.submit(asyncio.run, run())
        while True:
            try:
                return future.result(timeout=0.2)
            except TimeoutError:
                if future.done():
                    raise
            # Ctrl-C cancels the caller's task, which does not run meanwhile. Once: again would cut off what cleans up.
            if tasks and caller is not None and caller.cancelling() > handled:
                handled = caller.cancelling()
                for task in tasks:
                    task.get_loop().call_soon_threadsafe(task.cancel)


def share_compiled_statements() -> None:
    """Compile each statement once for all connections; for a process that connects to many databases."""
    _common_options["compiled_cache"] = CompiledStatements(1000)


@asynccontextmanager
async def connected(
    database: Database, wait: float = 0, *, bounded: bool = True, **options: Any
) -> AsyncIterator[AsyncConnection]:
    """A connection outside any pool, with the timeouts of migrations, closed at the end.

    Args:
        wait: how long to wait for a server that is starting or has no free connection, in seconds.
        bounded: whether a statement that the server should have ended by its timeout is given up; not for a connection
            that runs revisions, whose statements may have other timeouts.
        options: execution options of the connection, such as `isolation_level`.

    Raises:
        ConfigurationError: a timeout can't be used, or the connection goes through a pooler.
        ConnectionFailedError: PostgreSQL can't be reached, refuses the user, the password or the database, or does not
            answer any more.
    """
    engine = _engine(database, database.timeouts.deadline if bounded else None, options)
    try:
        connection = await _connect(engine, database, wait)
    except (OSError, UnicodeError, DBAPIError) as error:
        failure = explain(error, database)
        raise (failure if isinstance(failure, ConfigurationError) else ConnectionFailedError(str(failure))) from error
    try:
        driver_connection = (await connection.get_raw_connection()).driver_connection
        _keep_alive(driver_connection)
        await set_session_settings(driver_connection)
        yield connection
    except TimeoutError as error:  # closing a connection whose server does not answer would wait for the server
        await connection.invalidate(error)
        raise ConnectionFailedError(
            f"PostgreSQL at {database.host} has stopped answering: a statement still ran {duration_text(MARGIN)} "
            "after its timeout (MIGRATION_STATEMENT_TIMEOUT). What was not committed is rolled back. When PostgreSQL "
            "answers, run the same command again."
        ) from error
    finally:
        with suppress(DBAPIError):  # a connection that the server has ended can't even be rolled back
            await connection.close()


async def with_connection(database: Database, function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function with a connection in AUTOCOMMIT, and more arguments."""
    async with connected(database, isolation_level="AUTOCOMMIT") as connection:
        return await connection.run_sync(function, *arguments)


def _engine(database: Database, deadline: float | None, options: dict[str, Any]) -> AsyncEngine:
    settings = database.timeouts.session_settings()
    key = (deadline, *settings.items())
    if key not in database.engines:
        database.engines[key] = _new_engine(database, deadline, settings)
    return database.engines[key].execution_options(**_common_options, **options)


def _new_engine(database: Database, deadline: float | None, settings: dict[str, str]) -> AsyncEngine:
    # Set when the session starts, because a SET on the connection would begin a transaction that Alembic would take for
    # the caller's and never commit.
    settings = {"application_name": APPLICATION_NAME, **_KEEPALIVE_OF_SERVER, **settings}
    url, arguments = split_url(database.url)
    engine = create_async_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={
            "timeout": CONNECT_TIMEOUT,
            "command_timeout": deadline,
            "server_settings": settings,
            **arguments,
        },
    )
    event.listen(engine.sync_engine, "handle_error", _give_up)
    return engine


def _give_up(context: ExceptionContext) -> None:
    """Leave a connection that does not answer, or SQLAlchemy would wait for its rollback."""
    if isinstance(context.original_exception, TimeoutError):
        context.is_disconnect = True


async def _connect(engine: AsyncEngine, database: Database, wait: float) -> AsyncConnection:
    """Connect, and wait while the server is starting or has no free connection."""
    until, timer = time.monotonic() + wait, ReportTimer(0)
    while True:
        try:
            return await engine.connect()
        except DBAPIError as error:
            left = until - time.monotonic()
            if sqlstate(error) not in _TEMPORARY or left <= 0:
                raise
            if timer.is_due():
                log.info("Waiting up to %s for PostgreSQL at %s: %s", duration_text(left), database.host, reason(error))
        await asyncio.sleep(database.timeouts.pause(0))


def _keep_alive(connection: Any) -> None:
    """Let the system notice that the server's machine is gone; asyncpg has no setting for its socket."""
    transport = getattr(connection, "_transport", None)  # private: without it, the system's limits remain
    network_socket = transport and transport.get_extra_info("socket")
    if network_socket is not None and network_socket.family in (socket.AF_INET, socket.AF_INET6):
        network_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if option := getattr(socket, name, None):  # not every system has each option
                network_socket.setsockopt(socket.IPPROTO_TCP, option, value)


async def set_session_settings(connection: Any) -> None:
    """Set what not each server has, and what no session can start with for that reason.

    Transactions may take as long as their statements may. The server notices that its client has died while it works
    for it; see https://www.postgresql.org/docs/current/runtime-config-connection.html
    """
    if connection.get_server_version().major >= 17:
        await connection.execute("SET transaction_timeout = 0")
    with suppress(asyncpg.PostgresError):  # Windows can't
        await connection.execute("SET client_connection_check_interval = '1s'")


async def session_pid(connection: AsyncConnection) -> int:
    """The pid of a connection's session on the server; the transaction ends."""
    pid = int(await connection.scalar(select(func.pg_backend_pid())) or 0)
    await connection.rollback()
    return pid


def major_version(connection: Connection | AsyncConnection) -> int:
    """The major version of PostgreSQL."""
    return int((connection.dialect.server_version_info or (0,))[0])


async def reset_settings(connection: Any) -> None:
    """Undo what a revision has set for its session; what was set when the session started comes back."""
    await connection.execute("RESET ALL")
    await set_session_settings(connection)
