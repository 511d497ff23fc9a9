"""The database of a service, read without `env.py`: its revisions, and the progress of its backfills."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from safe_migrations.probe import read_current, reading
from safe_migrations.service import Service

TIMEOUT = 4.0  # seconds, for the connection and again for the queries: an unreachable host must not hold up the rest

# No row without the table; the alternative is an error, after which the transaction reads nothing more.
_HAS_BACKFILLS = """
    SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'safe_migrations'
      AND relname = 'backfill' AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
"""
_BACKFILLS = "SELECT name, rows FROM safe_migrations.backfill WHERE finished_at IS NULL ORDER BY name"


@dataclass(frozen=True)
class Answer:
    """The answer of a database.

    Attributes:
        revisions: that the database is at, each with the time of its record where the server keeps such times.
        backfills: the unfinished backfills, each with the number of changed rows.
    """

    revisions: Mapping[str, datetime | None]
    backfills: Mapping[str, int] = field(default_factory=dict)


async def ask(service: Service) -> Answer:
    """Ask the database to which the service's migrations connect.

    Raises:
        ConfigurationError: the database is not configured in variables of the service.
        ConnectionFailedError: the database can't be read, or not within some seconds.
    """
    address, variable = service.migration_address()
    async with reading(service, address, variable, TIMEOUT) as connection:
        revisions = await read_current(service, connection)
        return Answer(revisions, await _backfills(connection) if revisions else {})


async def _backfills(connection: Any) -> dict[str, int]:
    if not await connection.fetch(_HAS_BACKFILLS):
        return {}
    return {row["name"]: row["rows"] for row in await connection.fetch(_BACKFILLS)}
