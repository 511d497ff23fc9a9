"""`safe-migrations state --quick` and `wait`: is the database at this code's head, or ready for this code?

For probes that run often, and for init containers. This imports neither SQLAlchemy nor Alembic nor pydantic, which take
most of the time that `alembic current` takes.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from safe_migrations.address import Address
from safe_migrations.errors import ConfigurationError, ConnectionFailedError, MigrationError, RefusedError, runnable
from safe_migrations.revisions import EXIT_STATUS, SEVERAL_HEADS, Revisions, compare, read_revisions
from safe_migrations.service import SECTION, Service

TIMEOUT = 10.0  # seconds
POLL, REPORT = 1.0, 10.0  # seconds: between two tries of `wait`; between two reports of the same state


def run(service: Service) -> int:
    """Print one sentence on the database's revision.

    Returns:
        The exit status.
    """
    revisions = _revisions(service)
    comparison = compare(asyncio.run(_current_revisions(service)), revisions)
    print(runnable(comparison.sentence))
    return EXIT_STATUS[comparison.state]


def wait(service: Service, seconds: float, report: Callable[[str], None]) -> str:
    """Wait until this code can run on the database, see `revisions.compare`.

    A server that does not answer or refuses the connection may be starting, so `wait` tries again.

    Args:
        seconds: how long to wait; 0 for one try.
        report: shows what `wait` waits for, when that changes and from time to time.

    Returns:
        One sentence on the database's revision.

    Raises:
        ConfigurationError: a setting or a revision file can't be used.
        ConnectionFailedError: the database could not be read until the end.
        RefusedError: the database was in another state until the end; its exit status is the state's.
    """
    return asyncio.run(_wait(service, _revisions(service), seconds, report))


async def _wait(service: Service, revisions: Revisions, seconds: float, report: Callable[[str], None]) -> str:
    end = time.monotonic() + seconds
    reported, next_report = "", 0.0
    while True:
        try:
            return await _readiness(service, revisions)
        except (ConnectionFailedError, RefusedError) as error:
            if not seconds or error.exit_status == EXIT_STATUS[SEVERAL_HEADS]:  # waiting does not correct this code
                raise
            now = time.monotonic()
            left = end - now
            if left <= 0:
                error.args = (f"The database was not ready within {seconds:g} s. {error}",)
                raise
            if str(error) != reported or now >= next_report:
                reported, next_report = str(error), now + REPORT
                report(f"Waiting up to {left:.0f} s: {error}")
        await asyncio.sleep(min(POLL, left))


async def _readiness(service: Service, revisions: Revisions) -> str:
    comparison = compare(await _current_revisions(service), revisions)
    if not comparison.is_ready:
        raise RefusedError(comparison.sentence, EXIT_STATUS[comparison.state])
    return runnable(comparison.sentence)


def _revisions(service: Service) -> Revisions:
    if not service.env_prefix:
        raise ConfigurationError(
            f"state --quick and wait do not run env.py, and {service.config_file} does not name the variable of the "
            f"database's URL. For {service.proposed_prefix}_DATABASE_URL, write into the section [{SECTION}]:\n"
            f"env_prefix = {service.proposed_prefix}"
        )
    return read_revisions(service.version_folders())


async def _current_revisions(service: Service) -> dict[str, datetime | None]:
    async with reading(service, service.address(), service.variable("DATABASE_URL"), TIMEOUT) as connection:
        return await read_current(service, connection)


@asynccontextmanager
async def reading(service: Service, address: Address, variable: str, timeout: float) -> AsyncIterator[Any]:
    """A connection of asyncpg in a transaction that reads only.

    Args:
        timeout: for the connection, and again for all that is read, in seconds.

    Raises:
        ConnectionFailedError: the database can't be read, or not within the timeout.
    """
    arguments = address.connect_arguments(variable)
    try:
        async with _bounded(service, arguments, timeout) as connection:
            yield connection
        return
    except MigrationError:
        raise
    except TimeoutError:
        reason = f"no answer within {timeout:g} s"
    except ConnectionRefusedError:
        reason = "connection refused; for development, start it with safe-migrations db-up"
    except Exception as error:  # asyncpg has many kinds, and a probe shows no traceback
        reason = " ".join(str(error).split()) or type(error).__name__
    raise ConnectionFailedError(
        f"The revision of the database at {address.place(variable)} can't be read ({reason}). Check {variable} or the "
        "parts (see .env.example)."
    )


@asynccontextmanager
async def _bounded(service: Service, arguments: dict[str, Any], timeout: float) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(
        **arguments,
        timeout=timeout,
        statement_cache_size=0,  # a pooler gives each transaction another session
        server_settings={"application_name": service.name},
    )
    # Not wait_for(): asyncpg waits for the server even to roll back a cancelled query, and to close.
    end = asyncio.get_running_loop().call_later(timeout, connection.terminate)
    try:
        async with connection.transaction(readonly=True):
            yield connection
    except Exception as error:
        raise TimeoutError if end.when() <= asyncio.get_running_loop().time() else error from None
    finally:
        await connection.close()
        end.cancel()


async def read_current(service: Service, connection: Any) -> dict[str, datetime | None]:
    """The revisions that a database is at, each with the time of its record where the server keeps such times.

    Args:
        connection: of asyncpg; its transaction has failed afterwards if the database has no version table.
    """
    parts = [service.version_table_schema, service.version_table]
    table = ".".join('"' + part.replace('"', '""') + '"' for part in parts if part)
    recorded = "CASE WHEN current_setting('track_commit_timestamp')::bool THEN pg_xact_commit_timestamp(xmin) END"
    query = f"SELECT version_num, {recorded} AS recorded FROM {table}"  # noqa: S608  # the names are quoted
    try:
        return {row["version_num"]: row["recorded"] for row in await connection.fetch(query)}
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return {}
