"""Whether an application can work with its database, for a readiness probe of its own."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from safe_migrations.postgres.connection import Database, explain
from safe_migrations.revisions import AT_HEAD, NEWER, compare, read_revisions
from safe_migrations.service import Service


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

    A database that is newer than this code counts as ready: while a release is rolled out, the old replicas go on
    beside a schema that is migrated already.

    Args:
        engine: the application's engine.
        config_file: `alembic.ini`.
    """
    service, heads, known = _revisions_of_this_code(config_file)
    try:
        async with engine.connect() as connection:
            current = await connection.run_sync(_current_revisions, service)
    except (OSError, DBAPIError) as error:
        return Readiness(False, explain(error, Database(engine.url, service)))
    except PoolTimeoutError:
        more = service.variable("DB_POOL_SIZE")
        return Readiness(False, f"All connections of the pool are in use: raise {more}, or wait.")
    comparison = compare(current, heads, known)
    return Readiness(comparison.place in (AT_HEAD, NEWER), comparison.sentence)


def _current_revisions(connection: Connection, service: Service) -> frozenset[str]:
    version = {"version_table": service.version_table, "version_table_schema": service.version_table_schema}
    return frozenset(MigrationContext.configure(connection, opts=version).get_current_heads())


@cache
def _revisions_of_this_code(config_file: Path) -> tuple[Service, frozenset[str], frozenset[str]]:
    service = Service.read(config_file)
    return service, *read_revisions(service.version_folders())
