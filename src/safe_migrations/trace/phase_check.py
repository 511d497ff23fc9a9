"""What a phase allows a revision to do to tables that are in use, compared with what it does on a scratch database."""

import os
import re

from alembic.script import Script
from alembic.util import to_tuple
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from safe_migrations.errors import MigrationError
from safe_migrations.history.frozen import new_revisions
from safe_migrations.postgres.connection import Database, connected, reason
from safe_migrations.postgres.sql import ddl
from safe_migrations.trace.recorder import MODES, Trace, tracing
from safe_migrations.trace.scratch import complete_backfills, upgrade
from safe_migrations.trace.seed import seed
from safe_migrations.upgrade.phases import CONTRACT, EXPAND, phase_of
from safe_migrations.upgrade.project import Project

# What to do instead; the first that the statement has in it.
_INSTEAD = {
    r"\bCREATE (UNIQUE )?INDEX\b|\bREINDEX\b": "build the index by op.create_index_concurrently",
    r"\bALTER\b.*\b(UNIQUE|PRIMARY KEY)\b": "build the index by op.create_index_concurrently, then "
    "op.create_unique_constraint_using_index",
    r"\bALTER\b": "add the constraint (for SET NOT NULL: a CHECK that it is not null) with postgresql_not_valid=True, "
    "and check the rows by op.validate_constraint in the next revision",
    "": "change data in a revision of its own, or by a backfill",
}
_AGREE = 'if that is wanted, let the revision say so: acknowledged = "<what is lost or locked>"'


async def judge(project: Project, database: Database) -> list[str]:
    """Run the new revisions one by one, with rows in the tables that are there before each of them.

    Args:
        project: the service's.
        database: an empty one, for a user who owns it.

    Returns:
        A sentence for each thing that a revision does and its phase does not allow.

    Raises:
        MigrationError: a revision failed, or was refused.
    """
    async with connected(database, isolation_level="AUTOCOMMIT") as connection:
        # With few rows PostgreSQL reads a whole table where it would use the index of a big one.
        name = connection.dialect.identifier_preparer.quote(database.name)
        await connection.execute(ddl("ALTER DATABASE %(name)s SET enable_seqscan = off", name=name))
    sentences: list[str] = []
    done: set[str] = set()
    for script in new_revisions(project.script):
        async with connected(database) as connection:
            for revision in {*to_tuple(script.down_revision, default=())} - done:
                await _upgrade(connection, project, revision)
            await _fill(script, database)
            await complete_backfills(project, script, database)
            async with tracing(connection, database) as trace:
                await _upgrade(connection, project, script.revision)
        done.add(script.revision)
        sentences += verdict(trace, script)
    return sentences


async def _fill(script: Script, database: Database) -> None:
    async with connected(database, isolation_level="AUTOCOMMIT") as connection:
        for sentence in await connection.run_sync(seed, database.service.version_table):
            print(f"{_file(script)}: {sentence}")


async def _upgrade(connection: AsyncConnection, project: Project, revision: str) -> None:
    try:
        await connection.run_sync(upgrade, project, revision)
    except DBAPIError as error:
        raise MigrationError(f"With rows in the tables, the revision {revision} failed: {reason(error)}.") from error


def verdict(trace: Trace, script: Script) -> list[str]:
    """Compare what a revision did with what its phase allows.

    Args:
        trace: of the revision, in a database with rows.
        script: the revision; where it says `acknowledged`, somebody has agreed to what it does.

    Returns:
        A sentence for each thing that is not allowed: what happens, whom it stops, and what to do instead.
    """
    if getattr(script.module, "acknowledged", None):
        return []
    phase = phase_of(script) or EXPAND
    found = [*_rewrites(trace), *_scans(trace), *_several(trace)]
    if phase != CONTRACT:
        found += [
            f"{each}, and the code that runs before the deployment may rely on that: do it in a revision of its own "
            f'with phase = "{CONTRACT}", which waits until the new code runs everywhere; or, {_AGREE}.'
            for each in trace.broken
        ]
    return [f"{_file(script)} ({phase}) {each}" for each in found]


def _rewrites(trace: Trace) -> list[str]:
    return [
        f"writes the table {table} anew under {_name(MODES[-1])}, which stops readers and writers until all rows are "
        f"written: add an empty column and fill it by a backfill; or, {_AGREE}."
        for table in trace.rewritten
    ]


def _scans(trace: Trace) -> list[str]:
    """One for each statement and lock; the scan of a table that is written anew says nothing more."""
    scans = dict.fromkeys(scan for scan in trace.scans if scan.table not in trace.rewritten)
    return [
        f"reads the whole table {scan.table} ({scan.statement}) while it holds {_name(scan.mode)} on {scan.locked}, "
        f"which stops {_stopped(scan.mode)} for as long as that takes: {_instead(scan.statement)}; or, {_AGREE}."
        for scan in scans
    ]


def _instead(statement: str) -> str:
    return next(advice for pattern, advice in _INSTEAD.items() if re.search(pattern, statement, re.IGNORECASE))


def _several(trace: Trace) -> list[str]:
    """Several tables at once, besides those that a foreign key joins, which can't be had apart."""
    groups = {table: {table} for table in [*trace.together, *(table for pair in trace.joined for table in pair)]}
    for one, other in trace.joined:
        together = groups[one] | groups[other]
        groups |= dict.fromkeys(together, together)
    if len({frozenset(groups[table]) for table in trace.together}) < 2:
        return []
    tables = ", ".join(f"{table} ({_name(mode)})" for table, mode in sorted(trace.together.items()))
    strongest = max(trace.together.values(), key=MODES.index)
    return [
        f"locks several tables in one transaction, {tables}: while it waits for one of them, it stops "
        f"{_stopped(strongest)} of those that it has, and two that wait for each other are a deadlock: change each "
        f"table in a revision of its own; or, {_AGREE}."
    ]


def _name(mode: str) -> str:
    """A mode as SQL has it: SHARE ROW EXCLUSIVE."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", mode.removesuffix("Lock")).upper()


def _stopped(mode: str) -> str:
    return "readers and writers" if mode == MODES[-1] else "writers"


def _file(script: Script) -> str:
    return os.path.relpath(script.path)
