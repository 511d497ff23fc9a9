"""The databases that this machine can reach, and the revisions that they are at."""

from collections.abc import Iterable, Mapping
from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import DBAPIError

from safe_migrations.errors import ConfigurationError, MigrationError
from safe_migrations.logs import quiet
from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.postgres.database import Database, application_database
from safe_migrations.postgres.server_errors import explain
from safe_migrations.upgrade.project import Project


def configured_databases(project: Project) -> tuple[list[Database], list[str]]:
    """The databases of migrations and of the application, which usually are one; a warning if one is not configured."""
    try:
        databases = [project.database]
        if project.service.env_prefix:
            databases.append(application_database(project.service))
    except ConfigurationError as error:
        return [], [f"Warning: no database was checked for these revisions: {error}"]
    return list({database.url: database for database in databases}.values()), []


def read_applied(
    databases: Iterable[Database], version_options: Mapping[str, Any]
) -> tuple[list[tuple[Database, set[str]]], list[str]]:
    """The revisions that databases are at, and a warning for each database that could not be read.

    Args:
        version_options: where Alembic records the revision, as `context.configure` takes it.
    """
    applied, warnings = [], []
    for database in databases:
        try:
            applied.append((database, set(run_async(_current(database, version_options)))))
        except (DBAPIError, MigrationError) as error:
            why = explain(error, database) if isinstance(error, DBAPIError) else error
            warnings.append(f"Warning: reading the revision of a database failed: {why}")
    return applied, warnings


async def _current(database: Database, version_options: Mapping[str, Any]) -> tuple[str, ...]:
    async with connected(database, isolation_level="AUTOCOMMIT") as connection:
        with quiet("alembic"):
            return await connection.run_sync(
                lambda sync: MigrationContext.configure(sync, opts=dict(version_options)).get_current_heads()
            )
