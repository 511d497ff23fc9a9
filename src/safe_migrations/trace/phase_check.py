"""The phase check: what a revision does to tables with rows, compared with what its phase allows."""

import os
import re
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import contextmanager

from alembic.script import Script
from alembic.util import to_tuple
from sqlalchemy.exc import DBAPIError

from safe_migrations.errors import RevisionError
from safe_migrations.history.frozen import new_revisions
from safe_migrations.postgres.connection import connected
from safe_migrations.postgres.database import Database
from safe_migrations.postgres.lock_modes import MODES, sql_name
from safe_migrations.postgres.server_errors import reason
from safe_migrations.postgres.sql import ddl
from safe_migrations.printable import printable
from safe_migrations.trace.copies import complete_backfills, upgrade, verify
from safe_migrations.trace.recorder import Trace, tracing
from safe_migrations.trace.seed import seed
from safe_migrations.upgrade.phases import CONTRACT, EXPAND, declared, phase_of
from safe_migrations.upgrade.project import Project

# The safe alternative for a statement; the first pattern that matches.
_INSTEAD = {
    r"\bCREATE (UNIQUE )?INDEX\b|\bREINDEX\b": "build the index by op.create_index_concurrently",
    r"\bALTER\b.*\b(UNIQUE|PRIMARY KEY)\b": "build the index by op.create_index_concurrently, then run "
    "op.create_unique_constraint_using_index",
    r"\bALTER\b": "add the constraint (for SET NOT NULL: a CHECK that the column is not null) with "
    "postgresql_not_valid=True, and validate it by op.validate_constraint in the next step",
    "": "change data in a revision of its own, or by a backfill",
}
_AGREE = 'to accept this, write acknowledged = "<what is lost or locked>" into the revision'


async def check_phases(project: Project, database: Database) -> list[str]:
    """Run the new revisions one by one, with rows in the tables that exist before each revision.

    Args:
        database: an empty database, whose owner connects.

    Returns:
        A sentence for each effect of a revision that its phase does not allow.

    Raises:
        RevisionError: a revision failed, or is not acknowledged.
        BackfillError: a backfill failed.
    """
    traces = trace_with_rows(project, database, new_revisions(project.script))
    return [sentence async for script, trace in traces for sentence in not_allowed(trace, script)]


async def trace_with_rows(
    project: Project, database: Database, scripts: Sequence[Script]
) -> AsyncIterator[tuple[Script, Trace]]:
    """Run revisions one by one, with rows in the tables that exist before each revision.

    Args:
        database: an empty database, whose owner connects.
        scripts: the revisions in order; earlier revisions run before, without rows.

    Yields:
        Each revision, and what it did.

    Raises:
        RevisionError: a revision failed, or is not acknowledged.
        BackfillError: a backfill failed.
    """
    async with connected(database, isolation_level="AUTOCOMMIT") as connection:
        # With few rows, PostgreSQL scans a table although it would use the index of a large table.
        name = connection.dialect.identifier_preparer.quote(database.name)
        await connection.execute(ddl("ALTER DATABASE %(name)s SET enable_seqscan = off", name=name))
    applied: set[str] = set()
    unreleased = {name for script in scripts for name in declared(script, "unreleased_tables")}
    for script in scripts:
        for revision in {*to_tuple(script.down_revision, default=())} - applied:
            async with connected(database) as connection:
                with _explained(project.script.get_revision(revision)):
                    await connection.run_sync(upgrade, project, revision)
        yield script, await _trace(project, database, script, unreleased)
        applied.add(script.revision)


async def _trace(project: Project, database: Database, script: Script, unreleased: Collection[str]) -> Trace:
    version_table = database.service.version_table
    async with connected(database, isolation_level="AUTOCOMMIT") as watcher:
        for sentence in await watcher.run_sync(seed, version_table, unreleased):
            print(f"{_file(script)}: {sentence}")
        await complete_backfills(project, script, database)
        with _explained(script):
            async with connected(database) as connection, tracing(connection, watcher, version_table) as trace:
                await connection.run_sync(upgrade, project, script.revision)
            await watcher.run_sync(verify, project, script.revision, trace)
    return trace


@contextmanager
def _explained(script: Script) -> Iterator[None]:
    """Say which revision failed."""
    try:
        yield
    except (DBAPIError, RevisionError) as error:
        raise RevisionError(f"{_file(script)} failed on tables with rows: {reason(error)}.") from error


def not_allowed(trace: Trace, script: Script) -> list[str]:
    """Compare what a revision did with what its phase allows.

    Args:
        trace: of the revision, in a database with rows.
        script: the revision; with `acknowledged`, or in tables that no release has, everything is allowed.

    Returns:
        A sentence for each effect that is not allowed: what happens, what it blocks, and the safe alternative.
    """
    if getattr(script.module, "acknowledged", None) or declared(script, "unreleased_tables"):
        return []
    phase = phase_of(script) or EXPAND
    effects = [*_rewrites(trace), *_scans(trace), *_several(trace)]
    if phase != CONTRACT:
        effects += [
            f"{change}, which the code that runs before the deployment may need. Move this into a revision of its own "
            f'with phase = "{CONTRACT}", which runs when the new code runs everywhere; or, {_AGREE}.'
            for change in trace.broken
        ]
    return [f"{_file(script)} ({phase}) {effect}" for effect in effects]


def _rewrites(trace: Trace) -> list[str]:
    return [
        f"rewrites table {table}{_in_step(_step_of(trace, table))} while holding {sql_name(MODES[-1])}, blocking reads "
        f"and writes until the rewrite finishes. Add an empty column and fill it by a backfill; or, {_AGREE}."
        for table in trace.rewritten
    ]


def _scans(trace: Trace) -> list[str]:
    """One sentence for each statement and lock; a rewrite includes a scan."""
    scans = dict.fromkeys(scan for scan in trace.scans if scan.table not in trace.rewritten)
    return [
        f"scans table {scan.table} ({scan.statement}){_in_step(scan.step)} while holding {sql_name(scan.mode)} on "
        f"{scan.locked}, blocking {_blocked(scan.mode)} until the scan finishes. "
        f"Instead, {_instead(scan.statement)}; or, {_AGREE}."
        for scan in scans
    ]


def _instead(statement: str) -> str:
    return next(advice for pattern, advice in _INSTEAD.items() if re.search(pattern, statement, re.IGNORECASE))


def _several(trace: Trace) -> list[str]:
    """Several locked tables, other than a foreign key's two tables, or partitions, which are always locked together."""
    groups = {table: {table} for table in [*trace.together, *(table for pair in trace.joined for table in pair)]}
    for one, other in trace.joined:
        together = groups[one] | groups[other]
        groups |= dict.fromkeys(together, together)
    if len({frozenset(groups[table]) for table in trace.together}) < 2:
        return []
    tables = ", ".join(f"{table} ({sql_name(mode)})" for table, mode in sorted(trace.together.items()))
    strongest = max(trace.together.values(), key=MODES.index)
    return [
        f"locks several tables in one transaction{_in_step(trace.step_together)}, {tables}. While the transaction "
        f"waits for one table, it blocks {_blocked(strongest)} on the locked tables, and can deadlock. Change each "
        f"table in a step or a revision of its own; or, {_AGREE}."
    ]


def _step_of(trace: Trace, table: str) -> str | None:
    """The step that has rewritten a table."""
    return next((step.name for step in trace.steps if table in step.rewritten), None)


def _in_step(name: str | None) -> str:
    return f' in step "{printable(name)}"' if name else ""


def _blocked(mode: str) -> str:
    return "reads and writes" if mode == MODES[-1] else "writes"


def _file(script: Script) -> str:
    return os.path.relpath(script.path)
