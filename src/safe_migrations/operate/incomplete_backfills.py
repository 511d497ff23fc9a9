"""The backfills that have rows left to change, whether a revision requires them or not."""

from collections.abc import Collection, Iterator
from pathlib import Path

from alembic.script import Script
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from safe_migrations.backfill.definition import (
    NothingThereError,
    backfill_names,
    has_finished,
    is_complete,
    load_backfill,
    required_backfills,
)
from safe_migrations.backfill.queue import percent
from safe_migrations.errors import BackfillError
from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.postgres.rollback import rolled_back
from safe_migrations.postgres.server_errors import QUERY_CANCELED, sqlstate
from safe_migrations.upgrade.project import Project

SECONDS = 5  # for each backfill: without an index, looking for a row that is left reads the whole table
_TIMEOUT = text(f"SET LOCAL statement_timeout = '{SECONDS}s'")


def incomplete_backfills(
    connection: Connection, project: Project, pending: Collection[Script]
) -> Iterator[dict[str, str | None]]:
    """The backfills that can run now and are not complete.

    A backfill that an applied revision requires was complete when that revision ran. One that no revision requires is
    complete when one of its runs has finished.

    Returns:
        For each the name, the file that requires it, and why it is not known whether it is complete; each may be None.
    """
    applied = {
        name
        for script in project.script.walk_revisions()
        if script not in pending
        for name in required_backfills(script)
    }
    required = {name: Path(script.path).name for script in pending for name in required_backfills(script)}
    for name in backfill_names(project.backfills):
        if name in required or not (name in applied or has_finished(connection, name)):
            problem = _problem(connection, project.backfills, name)
            if problem is not None:
                yield {"name": name, "required_by": required.get(name), "problem": problem or None}


def percents(project: Project, names: Collection[str]) -> dict[str, int | None]:
    """How much of incomplete backfills is done; None where counting the rows that are left takes too long."""

    async def read() -> dict[str, int | None]:
        async with connected(project.database) as connection:
            return {name: await connection.run_sync(_percent, project.backfills, name) for name in names}

    return run_async(read()) if names else {}


def _percent(connection: Connection, folder: Path, name: str) -> int | None:
    try:
        backfill = load_backfill(folder, name)
        with rolled_back(connection):
            connection.execute(_TIMEOUT)
            return percent(connection, name, backfill)
    except (BackfillError, DBAPIError):  # the report names the reason
        return None


def _problem(connection: Connection, folder: Path, name: str) -> str | None:
    """Why a backfill may have rows left, empty if it has; None if there is nothing to do now."""
    try:
        backfill = load_backfill(folder, name)
        with rolled_back(connection):
            connection.execute(_TIMEOUT)
            return None if is_complete(connection, backfill, name) else ""
    except NothingThereError:  # the column does not exist yet, or no longer
        return None
    except BackfillError as error:
        return str(error)
    except DBAPIError as error:
        if sqlstate(error) != QUERY_CANCELED:
            raise
        return f"the search for remaining rows took longer than {SECONDS} s"
