"""Whether an application can work with its database, for a readiness probe of its own."""

import asyncio
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from safe_migrations.postgres.database import Database
from safe_migrations.postgres.server_errors import explain
from safe_migrations.revisions import Revisions, compare, read_revisions
from safe_migrations.service import Service

# Seconds for the whole check; more than the 10 s in which the template's engine connects, or waits for its pool: those
# errors say more.
TIMEOUT = 15.0


@dataclass(frozen=True)
class Readiness:
    """Whether the application can work with its database, and why.

    Attributes:
        ready: whether it can.
        reason: one sentence, without secrets.
    """

    ready: bool
    reason: str


async def check_readiness(engine: AsyncEngine, config_file: Path) -> Readiness:
    """Whether the database is at the revision that this code expects.

    A database that is newer than this code counts as ready: during a rollout, the old replicas keep running on a
    schema that is already migrated. So does one where only contract revisions are pending, which wait for this code.

    Args:
        engine: the application's engine.
        config_file: `alembic.ini`.
    """
    service, revisions = _of_this_code(config_file)
    try:
        async with asyncio.timeout(TIMEOUT), engine.connect() as connection:
            current = await connection.run_sync(_current_revisions, service)
    except (OSError, DBAPIError) as error:
        return Readiness(False, " ".join(str(explain(error, Database(engine.url, service))).split()))
    except PoolTimeoutError:
        more = service.variable("DB_POOL_SIZE")
        return Readiness(False, f"All connections of the pool are in use. Raise {more}, or wait.")
    comparison = compare(current, revisions)
    return Readiness(comparison.is_ready, comparison.sentence)


def _current_revisions(connection: Connection, service: Service) -> frozenset[str]:
    version = {"version_table": service.version_table, "version_table_schema": service.version_table_schema}
    return frozenset(MigrationContext.configure(connection, opts=version).get_current_heads())


@cache
def _of_this_code(config_file: Path) -> tuple[Service, Revisions]:
    service = Service.read(config_file)
    return service, read_revisions(service.version_folders())
