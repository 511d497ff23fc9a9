"""Connecting to a database, and an error for each way in which that can fail."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from safe_migrations.address import DSN_PARAMETERS, Address, dsn, parse_address, parse_parameters, place
from safe_migrations.errors import ConfigurationError, ConnectionFailedError, LockedError, MigrationError
from safe_migrations.postgres.timeouts import ReportTimer, Timeouts, duration_text, load_timeouts
from safe_migrations.printable import printable
from safe_migrations.service import Service

log = logging.getLogger(__name__)

Result = TypeVar("Result")

CONNECT_TIMEOUT = 10.0  # seconds
APPLICATION_NAME = "alembic"
DRIVER = "postgresql+asyncpg"

# PostgreSQL's error codes, see https://www.postgresql.org/docs/current/errcodes-appendix.html
LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED, SERIALIZATION_FAILURE = "55P03", "40P01", "40001"
QUERY_CANCELED, INSUFFICIENT_PRIVILEGE, READ_ONLY = "57014", "42501", "25006"
DEPENDENT_OBJECTS = "2BP01"
VIOLATIONS = ("23502", "23503", "23505", "23514")  # NOT NULL, foreign key, unique, check
RETRIED = (LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED, SERIALIZATION_FAILURE)
# Errors about the schema, the statement or the server, whose DETAIL and HINT hold no values of rows: dependent objects,
# something not supported or not ready, an object in use, a missing file of the server, and all of class 42.
_WITHOUT_VALUES = (DEPENDENT_OBJECTS, "0A000", "55000", "55006", "58P01")
_TEMPORARY = ("53300", "57P03")  # too many connections, the server is starting
# Seconds: a peer that does not answer for a minute is gone. The system's own limits are hours.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 60_000}
_KEEPALIVE_OF_SERVER = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
_REFUSALS = ("08", "28", "3D", "53", "57")  # classes of errors with which PostgreSQL refuses a connection


@dataclass(frozen=True)
class Database:
    """A database, and how its address is configured.

    Attributes:
        url: where to connect, for asyncpg; what asyncpg takes in a connection string only stands in its query.
        service: whose database it is.
    """

    url: URL
    service: Service

    @classmethod
    def of(cls, url: URL | str, service: Service) -> "Database":
        """The database of a URL for any driver.

        Args:
            url: such as `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE?sslmode=require`.
            service: whose database it is.

        Raises:
            ConfigurationError: it is not a URL of PostgreSQL, or has a parameter that asyncpg does not take.
        """
        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError):  # a port that is no number is a ValueError
            raise _unreadable(service) from None
        if parsed.get_backend_name() not in ("postgresql", "postgres"):
            raise ConfigurationError(
                f"The database's URL is for {parsed.get_backend_name()}, not for PostgreSQL; correct "
                f"{service.settings}."
            )
        if "@" in (parsed.host or ""):  # of a password that is not encoded, half of which would be the host
            raise _unreadable(service)
        query = {name: [values] if isinstance(values, str) else list(values) for name, values in parsed.query.items()}
        return cls(_checked(parsed.set(drivername=DRIVER), query, service.settings), service)

    def named(self, name: str) -> "Database":
        """Another database of the same server.

        Args:
            name: unquoted.
        """
        return replace(self, url=self.url.set(database=name))

    @property
    def name(self) -> str:
        """The database's name."""
        return self.url.database or ""

    @property
    def host(self) -> str:
        """The server's host and port, or those of several; for messages."""
        hosts, ports = (client_environment(self.url).get(name) for name in ("PGHOST", "PGPORT"))
        return place(hosts.split(",") if hosts else (), ports.split(",") if ports else ())

    @property
    def timeouts(self) -> Timeouts:
        """The timeouts of migrations, from the service's environment.

        Raises:
            ConfigurationError: a timeout is not a duration, or out of range.
        """
        return load_timeouts(self.service.variables)


def application_database(service: Service) -> Database:
    """Where the application connects, by the service's variables.

    Args:
        service: whose database it is.

    Raises:
        ConfigurationError: it is not configured, or not a URL of PostgreSQL.
    """
    return Database(_url(service.address(), service.variable("DATABASE_URL")), service)


def parse_database_url(text: str, variable: str) -> URL:
    """Make a URL for asyncpg of one as platforms hand them out.

    Args:
        text: the URL, such as `postgres://USER:PASSWORD@HOST/DATABASE?sslmode=require`.
        variable: the environment variable that it came from, to name it in an error; its value is not shown.

    Raises:
        ConfigurationError: it is not a URL of PostgreSQL, or has a parameter that asyncpg does not take.
    """
    return _url(parse_address(text, variable), variable)


def _unreadable(service: Service) -> ConfigurationError:
    return ConfigurationError(
        f"The database's URL can't be read; correct {service.settings}, and percent-encode the special characters of "
        "user and password."
    )


def _url(address: Address, variable: str) -> URL:
    url = URL.create(DRIVER, address.user, address.password, address.host, address.port, address.database)
    query = {name: [value] if isinstance(value, str) else value for name, value in address.parameters.items()}
    return _checked(url, query, variable)


def _checked(url: URL, query: dict[str, list[str]], variable: str) -> URL:
    url = url.set(query=parse_parameters(query, variable))
    try:
        _split(url)[0].get_dialect()().create_connect_args(_split(url)[0])
        if not 1 <= (url.port or 5432) <= 65535:
            raise ValueError("a port is a number from 1 to 65535")
    except (ArgumentError, ValueError) as error:
        message = f"{variable} can't be used ({error}); correct its hosts, ports or parameters."
        raise ConfigurationError(message) from None
    return url


def _split(url: URL) -> tuple[URL, dict[str, Any]]:
    """The URL for SQLAlchemy's dialect, and the rest as an argument for asyncpg."""
    rest = dsn(dict(url.query))
    return url.difference_update_query(DSN_PARAMETERS), {"dsn": rest} if rest else {}


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

    with ThreadPoolExecutor(max_workers=1) as executor:
        future = executor.submit(asyncio.run, run())
        while True:
            try:
                return future.result(timeout=0.2)
            except TimeoutError:
                if future.done():
                    raise
            # Ctrl-C cancels the caller's task, which does not run meanwhile.
            if caller is not None and caller.cancelling():
                for task in tasks:
                    task.get_loop().call_soon_threadsafe(task.cancel)


@asynccontextmanager
async def connected(database: Database, wait: float = 0, **options: Any) -> AsyncIterator[AsyncConnection]:
    """A connection outside any pool, with the timeouts of migrations, closed at the end.

    Args:
        database: where to connect.
        wait: how long to wait for a server that is starting or has no free connection, in seconds.
        options: execution options of the connection, such as `isolation_level`.

    Raises:
        ConfigurationError: a timeout can't be used, or the connection goes through a pooler.
        ConnectionFailedError: PostgreSQL can't be reached, or refuses the user, the password or the database.
    """
    # Set when the session starts, because a SET on the connection would begin a transaction that Alembic would take for
    # the caller's and never commit.
    settings = {
        "application_name": APPLICATION_NAME,
        **_KEEPALIVE_OF_SERVER,
        **database.timeouts.session_settings(),
    }
    url, arguments = _split(database.url)
    engine = create_async_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"timeout": CONNECT_TIMEOUT, "server_settings": settings, **arguments},
        execution_options=options,
    )
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
        raise
    finally:
        with suppress(DBAPIError):  # one that the server has ended can't even be rolled back
            await connection.close()


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


_CLIENT_VARIABLES = {
    **{"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "database": "PGDATABASE"},
    **{"ssl": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY"},
    **{"sslcrl": "PGSSLCRL", "passfile": "PGPASSFILE", "options": "PGOPTIONS", "krbsrvname": "PGKRBSRVNAME"},
    **{"ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION", "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION"},
    **{"target_session_attrs": "PGTARGETSESSIONATTRS", "sslnegotiation": "PGSSLNEGOTIATION", "gsslib": "PGGSSLIB"},
}


def _keep_alive(connection: Any) -> None:
    """Let the system notice that the server's machine is gone; asyncpg has no setting for its socket."""
    network_socket = connection._transport.get_extra_info("socket")
    if network_socket is not None and network_socket.family in (socket.AF_INET, socket.AF_INET6):
        network_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if option := getattr(socket, name, None):  # not each system has all
                network_socket.setsockopt(socket.IPPROTO_TCP, option, value)


async def set_session_settings(connection: Any) -> None:
    """Set what not each server has, and what no session can start with for that reason.

    Transactions may take as long as their statements may. The server notices that its client has died while it works
    for it; see https://www.postgresql.org/docs/current/runtime-config-connection.html

    Args:
        connection: of asyncpg.
    """
    if connection.get_server_version().major >= 17:
        await connection.execute("SET transaction_timeout = 0")
    with suppress(asyncpg.PostgresError):  # Windows can't
        await connection.execute("SET client_connection_check_interval = '1s'")


async def reset_settings(connection: Any) -> None:
    """Undo what a revision has set for its session; what was set when the session started comes back.

    Args:
        connection: of asyncpg.
    """
    await connection.execute("RESET ALL")
    await set_session_settings(connection)


def client_environment(url: URL) -> dict[str, str]:
    """The variables with which psql and PostgreSQL's other programs connect, so that no command line has a password.

    See https://www.postgresql.org/docs/current/libpq-envars.html

    Args:
        url: the database's URL, for asyncpg; it may have several hosts.
    """
    plain, _ = _split(url)
    _, arguments = plain.get_dialect()().create_connect_args(plain)
    values = {variable: {**url.query, **arguments}.get(name) for name, variable in _CLIENT_VARIABLES.items()}
    return {
        name: ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for name, value in values.items()
        if value is not None
    }


def explain(error: OSError | UnicodeError | DBAPIError, database: Database) -> MigrationError:
    """The error to raise for a connection or a statement that failed: what happened, and how to correct it.

    Args:
        error: what was raised.
        database: where the connection went, or was to go; its password is not shown.
    """
    address, user, settings = database.host, database.url.username, database.service.settings
    if isinstance(error, ConnectionError) and "SSL" in str(error):
        return ConnectionFailedError(
            f"PostgreSQL at {address} offers no TLS; turn TLS on there, or remove sslmode from {settings}."
        )
    if not isinstance(error, DBAPIError):
        return ConnectionFailedError(
            f"PostgreSQL does not answer at {address} ({_network_reason(error)}). Correct {settings}, or start "
            "PostgreSQL; for development:\npdm run db-up"
        )
    if is_disconnect(error):
        return ConnectionFailedError(
            f"The connection to PostgreSQL at {address} was lost ({reason(error)}); what was not committed is rolled "
            "back. When PostgreSQL answers, run the same command again."
        )
    match sqlstate(error):
        case "28P01":
            return ConnectionFailedError(
                f"PostgreSQL at {address} refused the password of the user {user!r}; correct {settings}."
            )
        case "3D000":
            return ConnectionFailedError(
                f"PostgreSQL at {address} has no database {database.name!r}. Correct {settings}, or create the "
                "database; for development:\npdm run db-up"
            )
        case "42501":
            return MigrationError(
                f"The user {user!r} may not do this ({reason(error)}); grant the user the missing privileges, or "
                f"migrate as the owner ({database.service.migration_url})."
            )
        case "55P03":
            return LockedError(
                "A lock was not free within MIGRATION_LOCK_TIMEOUT. Wait until the blocking session ends, then run the "
                "same command again. To see the blocking sessions:\nsafe-migrations locks"
            )
        case "08P01" | "26000" | "42P05":
            return pooler_refused(database.service, reason(error))
        case state:
            kind = ConnectionFailedError if (state or "").startswith(_REFUSALS) else MigrationError
            return kind(f"PostgreSQL at {address} refused this ({reason(error)}); correct the cause, or {settings}.")


def pooler_refused(service: Service, why: str) -> ConfigurationError:
    """The error for a connection through a pooler in transaction mode, which loses session locks and settings.

    Args:
        service: whose database it is.
        why: how this was noticed.
    """
    return ConfigurationError(
        f"The connection goes through a pooler ({why}), which loses the locks and settings of a session. Set "
        f"{service.migration_url} to a URL that connects to PostgreSQL directly."
    )


def sqlstate(error: BaseException) -> str | None:
    """PostgreSQL's code for an error, see https://www.postgresql.org/docs/current/errcodes-appendix.html

    Args:
        error: what was raised; None is returned for what does not come from PostgreSQL.
    """
    return getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None


def is_disconnect(error: BaseException) -> bool:
    """Whether the connection is gone.

    Args:
        error: what was raised.
    """
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    return isinstance(error, ConnectionError | TimeoutError)


def reason(error: BaseException) -> str:
    """What went wrong, in one line without a full stop, and without values of rows.

    PostgreSQL's DETAIL and HINT are part of it where they hold no values: which objects depend on a column, say.

    Args:
        error: what was raised.
    """
    if isinstance(error, DBAPIError):
        cause = getattr(error.orig, "__cause__", None) or error.orig  # SQLAlchemy puts the class before the message
        text = str(getattr(cause, "message", None) or cause).partition("\nDETAIL:")[0]
        if more := "; ".join(_detail_and_hint(sqlstate(error) or "", cause)):
            text = f"{text.rstrip('.')} ({more})"
    elif isinstance(error, MigrationError | OSError):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    return printable(" ".join(text.split())).rstrip(".") or type(error).__name__


def _detail_and_hint(state: str, cause: BaseException | None) -> Iterator[str]:
    if state in _WITHOUT_VALUES or state.startswith("42"):
        # The hint for dependent objects is to drop them too.
        for part in ("detail",) if state == DEPENDENT_OBJECTS else ("detail", "hint"):
            if text := getattr(cause, part, None):
                yield "; ".join(str(text).rstrip(".").splitlines())


def _network_reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT:g} s"
    return getattr(error, "strerror", None) or str(error)
