"""Connecting for migrations, and a sentence for each way in which that can fail."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from safe_migrations.errors import ConnectionFailedError, MigrationError
from safe_migrations.postgres.timeouts import load_policy

Result = TypeVar("Result")

CONNECT_TIMEOUT = 10.0  # seconds
APPLICATION_NAME = "alembic"


def run_async(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine from synchronous code, also where an event loop is running already.

    Args:
        coroutine: what to run; in a thread and a loop of its own where this thread's loop is busy.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(asyncio.run, coroutine).result()


@asynccontextmanager
async def connected(url: URL, env_prefix: str, **options: Any) -> AsyncIterator[AsyncConnection]:
    """A connection of its own, from no pool, with the bounds of the policy, closed at the end.

    Args:
        url: where to connect, for the asyncpg driver.
        env_prefix: prefix of the service's environment variables, to name them in an error.
        options: execution options of the connection, such as `isolation_level`.

    Raises:
        ConfigurationError: a bound of the policy can't be used.
        ConnectionFailedError: PostgreSQL can't be reached, or refuses the user, the password or the database.
    """
    # Given when the session starts, because a SET on the connection would begin a transaction that Alembic takes for
    # somebody else's and never commits.
    settings = {"application_name": APPLICATION_NAME, **load_policy().session_settings()}
    engine = create_async_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"timeout": CONNECT_TIMEOUT, "server_settings": settings},
        execution_options=options,
    )
    try:
        connection = await engine.connect()
    except (OSError, UnicodeError, DBAPIError) as error:
        raise ConnectionFailedError(explain(error, url, env_prefix)) from error
    try:
        yield connection
    finally:
        with suppress(DBAPIError):  # one that the server has ended can't even be rolled back
            await connection.close()


def client_environment(url: URL) -> dict[str, str]:
    """What psql and PostgreSQL's other programs read to connect there: no password on a command line.

    See https://www.postgresql.org/docs/current/libpq-envars.html

    Args:
        url: the database's URL, for asyncpg; it may have several hosts.
    """
    _, arguments = url.get_dialect()().create_connect_args(url)
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "database": "PGDATABASE"}
    values = {variable: arguments.get(name) for name, variable in names.items()} | {"PGSSLMODE": arguments.get("ssl")}
    return {
        name: ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for name, value in values.items()
        if value is not None
    }


def explain(error: OSError | UnicodeError | DBAPIError, url: URL, env_prefix: str) -> str:
    """The sentence for a connection or a statement that failed: what happened, and what puts it right.

    Args:
        error: what was raised.
        url: where it connected, or tried to; its password is not shown.
        env_prefix: prefix of the service's environment variables.
    """
    address = f"{url.host or url.query.get('host') or 'localhost'}:{url.port or 5432}"
    settings = f"{env_prefix}_DATABASE_URL, {env_prefix}_MIGRATION_DATABASE_URL or the parts (see .env.example)"
    if isinstance(error, ConnectionError) and "SSL" in str(error):
        return f"PostgreSQL at {address} offers no TLS: turn it on there, or take sslmode out of {settings}."
    if not isinstance(error, DBAPIError):
        return (
            f"PostgreSQL does not answer at {address} ({_network_reason(error)}): "
            f"start it (for development: pdm run db-up), or correct {settings}."
        )
    if is_disconnect(error):
        return (
            f"The connection to PostgreSQL at {address} was lost ({reason(error)}): what was not committed is rolled "
            "back. When PostgreSQL answers, run the same command again."
        )
    match sqlstate(error):
        case "28P01":
            return f"PostgreSQL at {address} refused the password of the user {url.username!r}: correct {settings}."
        case "3D000":
            return (
                f"PostgreSQL at {address} has no database {url.database!r}: "
                f"create it (for development: pdm run db-up), or correct {settings}."
            )
        case "42501":
            return (
                f"The user {url.username!r} may not do this ({reason(error)}): grant it what it needs, or migrate as "
                f"the owner ({env_prefix}_MIGRATION_DATABASE_URL)."
            )
        case "55P03":
            return (
                "A lock was not free within MIGRATION_LOCK_TIMEOUT. python -m safe_migrations locks shows who holds "
                "it; then run the same command again."
            )
        case "08P01" | "26000" | "42P05":
            return pooler_refused(env_prefix, reason(error))
        case _:
            return f"PostgreSQL at {address} refused this ({reason(error)}): put that right, or correct {settings}."


def pooler_refused(env_prefix: str, why: str) -> str:
    """The sentence for a connection through a pooler in transaction mode, which loses session locks and settings.

    Args:
        env_prefix: prefix of the service's environment variables.
        why: how it was noticed.
    """
    return (
        f"The connection goes through a pooler ({why}), which loses the locks and settings of a session: set "
        f"{env_prefix}_MIGRATION_DATABASE_URL to a URL of PostgreSQL itself, past the pooler."
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
    """What went wrong, in one line without a full stop; of PostgreSQL's errors without the detail, which holds rows.

    Args:
        error: what was raised.
    """
    if isinstance(error, DBAPIError):
        cause = getattr(error.orig, "__cause__", None) or error.orig  # SQLAlchemy puts the class before the message
        text = str(getattr(cause, "message", None) or cause).partition("\nDETAIL:")[0]
    elif isinstance(error, MigrationError | OSError):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    return " ".join(text.split()).rstrip(".") or type(error).__name__


def _network_reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT:g} s"
    return getattr(error, "strerror", None) or str(error)
