"""`safe-migrations state --quick`: is the database at this code's head? For a probe that runs often.

It imports neither SQLAlchemy nor Alembic nor pydantic, which take most of the time that `alembic current` takes.
"""

import asyncio
import sys
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from safe_migrations.address import place
from safe_migrations.errors import ConfigurationError, ConnectionFailedError, MigrationError
from safe_migrations.revisions import EXIT_STATUS, compare, read_revisions
from safe_migrations.service import SECTION, Service

TIMEOUT = 10.0  # seconds


def run(service: Service) -> int:
    """Print one sentence on the database's revision.

    Returns:
        The exit status.
    """
    try:
        if not service.env_prefix:
            raise ConfigurationError(
                f"state --quick does not run env.py, and {service.config_file} does not name the variable of the "
                f"database's URL; add env_prefix = ORDERS to its section [{SECTION}] for ORDERS_DATABASE_URL."
            )
        revisions = read_revisions(service.version_folders())
        current = asyncio.run(_current_revisions(service))
    except MigrationError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    comparison = compare(current, revisions)
    print(comparison.sentence)
    return EXIT_STATUS[comparison.state]


async def _current_revisions(service: Service) -> set[str]:
    address = service.address()
    arguments = address.connect_arguments(service.variable("DATABASE_URL"))
    try:
        return await _fetch_revisions(service, arguments)
    except TimeoutError:
        reason = f"no answer within {TIMEOUT:g} s"
    except ConnectionRefusedError:
        reason = "connection refused; for development, start it with safe-migrations db-up"
    except Exception as error:  # asyncpg has many kinds, and a probe shows no traceback
        reason = " ".join(str(error).split()) or type(error).__name__
    settings = f"{service.variable('DATABASE_URL')} or the parts (see .env.example)"
    port = arguments["port"] or []
    where = place(arguments["host"] or [], port if isinstance(port, list) else [port])
    raise ConnectionFailedError(f"The revision of PostgreSQL at {where} can't be read ({reason}); check {settings}.")


async def _fetch_revisions(service: Service, arguments: dict[str, Any]) -> set[str]:
    connection = await asyncpg.connect(
        **arguments,
        timeout=TIMEOUT,
        statement_cache_size=0,  # a pooler gives each transaction another session
        server_settings={"application_name": service.name},
    )
    # Not wait_for(): asyncpg waits for the server even to roll back a cancelled query, and to close.
    end = asyncio.get_running_loop().call_later(TIMEOUT, connection.terminate)
    try:
        async with connection.transaction(readonly=True):
            return {row["version_num"] for row in await connection.fetch(_query(service))}
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return set()
    except Exception as error:
        raise TimeoutError if end.when() <= asyncio.get_running_loop().time() else error from None
    finally:
        await connection.close()
        end.cancel()


def _query(service: Service) -> str:
    parts = [service.version_table_schema, service.version_table]
    table = ".".join('"' + part.replace('"', '""') + '"' for part in parts if part)
    return f"SELECT version_num FROM {table}"  # noqa: S608  # the names are quoted
