"""The details of one service on the page of a fleet: its revisions, their SQL, and its models."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from alembic.script import Script

from safe_migrations.backfill.definition import required_backfills
from safe_migrations.fleet.diagram import Diagram, draw
from safe_migrations.lint.locked_statements import LockedStatement, locked_statements
from safe_migrations.lint.revision import Revision
from safe_migrations.postgres.statement_locks import EXCLUSIVE, NO_WRITES, SHARE, UNKNOWN
from safe_migrations.schema.structure import read_tables
from safe_migrations.upgrade.loading import load_revisions
from safe_migrations.upgrade.phases import phase_of, unacknowledged
from safe_migrations.upgrade.project import Project
from safe_migrations.upgrade.revision_names import number_and_message

STATEMENTS = 30  # that are shown of a revision
_WAITING = {**dict.fromkeys((SHARE, NO_WRITES), "writes"), EXCLUSIVE: "reads and writes"}


@dataclass(frozen=True)
class StatementDetails:
    """A statement of a revision.

    Attributes:
        step: the name of its step; empty outside of the steps.
        sql: ready to run.
        lock: its strongest lock on a table in use, and what waits for that lock.
        weight: `online`, `moment` for a lock that blocks others, `long` if the statement also reads or rewrites all
            rows meanwhile, or `unknown`.
    """

    step: str
    sql: str
    lock: str
    weight: str


@dataclass(frozen=True)
class RevisionDetails:
    """A revision of a service.

    Attributes:
        revision: its id.
        name: number and message.
        file: the name of its file.
        phase: `expand`, `contract`, or None.
        backfills: the names of the required backfills.
        danger: what nobody has acknowledged yet; empty for nothing.
        statements: the first ones; of pending revisions only.
        omitted: how many other statements a pending revision has.
        unseen: why those may not be all statements.
    """

    revision: str
    name: str
    file: str
    phase: str | None
    backfills: tuple[str, ...] = ()
    danger: str = ""
    statements: tuple[StatementDetails, ...] = ()
    omitted: int = 0
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Details:
    """A service's revisions and models, as its code has them.

    Attributes:
        revisions: in the order in which they run.
        diagram: of the models; None without models.
    """

    revisions: tuple[RevisionDetails, ...] = ()
    diagram: Diagram | None = None


def read_details(project: Project, pending: Collection[str]) -> Details:
    """Read the revisions and the models of a service; no database is needed.

    Raises:
        RevisionError: a revision file can't be used.
        CommandError: the files do not fit together.
    """
    load_revisions(project.script)
    scripts = reversed(list(project.script.walk_revisions()))
    revisions = (_pending(script) if script.revision in pending else _applied(script) for script in scripts)
    tables = read_tables(project.options.get("target_metadata"))
    return Details(tuple(revisions), draw(tables) if tables else None)


def _applied(script: Script) -> RevisionDetails:
    return RevisionDetails(script.revision, number_and_message(script), Path(script.path).name, phase_of(script))


def _pending(script: Script) -> RevisionDetails:
    revision, request = Revision(script), unacknowledged(script)
    statements = [*map(_statement, locked_statements(revision))]
    return replace(
        _applied(script),
        backfills=tuple(required_backfills(script)),
        danger=request[1] if request else "",
        statements=tuple(statements[:STATEMENTS]),
        omitted=max(0, len(statements) - STATEMENTS),
        unseen=tuple(f"line {problem.line}: {problem.reason}" for problem in revision.upgrade_problems),
    )


def _statement(statement: LockedStatement) -> StatementDetails:
    lock, waiting = str(statement.lock), _WAITING.get(statement.lock.mode)
    if waiting is None:
        weight = "unknown" if statement.lock.mode == UNKNOWN else "online"
        return StatementDetails(statement.step, statement.sql, lock, weight)
    weight, time = ("long", "until it ends") if statement.lock.work else ("moment", "for a moment")
    return StatementDetails(statement.step, statement.sql, f"{lock}; {waiting} wait {time}", weight)
