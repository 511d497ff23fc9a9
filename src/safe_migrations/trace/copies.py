"""Running revisions on a copy of a database, or on an empty database with generated rows."""

from alembic import command
from alembic.runtime.migration import MigrationContext
from alembic.script import Script
from sqlalchemy import Connection

from safe_migrations.backfill.definition import load_backfill, required_backfills
from safe_migrations.backfill.running import Pace, run_backfill
from safe_migrations.ddl.step_records import StepRecords
from safe_migrations.errors import RevisionError
from safe_migrations.logs import quiet
from safe_migrations.postgres.connection import with_connection
from safe_migrations.postgres.database import Database
from safe_migrations.trace.recorder import Trace
from safe_migrations.upgrade.project import Project


async def complete_backfills(project: Project, script: Script, database: Database) -> None:
    """Run the backfills that a revision requires, unless its first steps are completed.

    Raises:
        BackfillError: a backfill failed, or its values are not written yet.
    """
    names = required_backfills(script)
    if names:
        records = await with_connection(database, StepRecords.read, project.options)
        names = () if records.of(script.revision, "upgrade") else names
    for name in names:
        definition = load_backfill(project.backfills, name)
        await run_backfill(database, project.backfills, name, definition, Pace(nice_ratio=0))


def upgrade(connection: Connection, project: Project, revision: str) -> None:
    """Upgrade a database on a connection to it.

    Args:
        connection: to the copy, not in a transaction.
    """
    command.upgrade(project.new_config({"connection": connection}), revision)


def verify(connection: Connection, project: Project, revision: str, trace: Trace) -> None:
    """Check that a revision has left its transaction to Alembic, and that the database is at this revision.

    Args:
        connection: to the copy, another one than the revision's.

    Raises:
        RevisionError: the revision ended its transaction itself, or is not recorded.
    """
    with quiet("alembic"):
        recorded = MigrationContext.configure(connection, opts=project.version_options).get_current_heads()
    if trace.ended_itself or revision not in recorded:
        raise RevisionError(
            "the revision ends its transaction itself (COMMIT, ROLLBACK, or commit() of the connection), so a failure "
            "can't undo the whole revision. Leave the transaction to Alembic; what can't run in a transaction belongs "
            "in op.get_context().autocommit_block()"
        )
