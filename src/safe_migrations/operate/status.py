"""The report of `safe-migrations state`."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import Script
from sqlalchemy import Connection

from safe_migrations.backfill.definition import backfill_command
from safe_migrations.errors import ConfigurationError
from safe_migrations.operate.drift import find_drift
from safe_migrations.operate.incomplete_backfills import incomplete_backfills
from safe_migrations.operate.sessions import blocking_sessions
from safe_migrations.postgres.catalog import Session
from safe_migrations.printable import printable
from safe_migrations.upgrade.explanations import explain_state
from safe_migrations.upgrade.partly_applied import PartlyApplied
from safe_migrations.upgrade.phases import phase_of, unacknowledged
from safe_migrations.upgrade.project import Project
from safe_migrations.upgrade.revision_names import full_name, number_and_message
from safe_migrations.upgrade.states import AT_HEAD, DRIFT, EXIT_STATUS, UNTRACKED, State, read_state

SHOWN = 20  # lines of a kind


@dataclass(frozen=True)
class Report:
    """A database's state, as text or JSON.

    Attributes:
        state: its name.
        current: the revisions that the database is at.
        heads: the newest revisions of this code.
        pending: the revisions to run, each with its file, its name (number and message), and its phase where it
            declares one.
        partly_applied: the revisions of which some steps are completed and not all, each with its file, the direction
            (`upgrade` or `downgrade`), and its completed and remaining steps.
        unacknowledged: the dangers of pending revisions that are not acknowledged, each with the file and the line.
        backfills: the backfills that are not complete, each with the file of the pending revision that requires it,
            and why it is not known whether it is complete.
        drift: how the models differ from the database, in Alembic's words; None where that was not compared, because
            revisions are pending.
        not_compared: what could not be compared with the models, each with the reason.
        invalid: indexes that a failed concurrent build has left.
        blockers: sessions that block another session, or are idle in transaction.
        meaning: what the state means.
        next: what to do next.
        names: number, message and file of the revisions in `current` and `heads`.
    """

    state: str
    current: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    pending: tuple[dict[str, str | None], ...] = ()
    partly_applied: tuple[dict[str, Any], ...] = ()
    unacknowledged: tuple[str, ...] = ()
    backfills: tuple[dict[str, str | None], ...] = ()
    drift: tuple[str, ...] | None = None
    not_compared: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    blockers: tuple[Session, ...] = ()
    meaning: str = ""
    next: str = ""
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def exit_status(self) -> int:
        """The exit status of the command."""
        return EXIT_STATUS[self.state]

    def as_json(self) -> str:
        """The report as JSON."""
        keys = {name: value for name, value in asdict(self).items() if name not in ("meaning", "names")}
        return json.dumps(keys, indent=2)

    def as_text(self) -> str:
        """The report as text."""
        lists = (
            ("pending", self.pending_names),
            ("to acknowledge", self.unacknowledged),
            ("backfill not complete", [_backfill_line(backfill) for backfill in self.backfills]),
            ("drift", self.drift or ()),
            ("not compared", self.not_compared),
            ("invalid", self.invalid),
            ("blockers", self.blockers),
        )
        current, heads = (
            ", ".join(self.names.get(revision, revision) for revision in revisions)
            for revisions in (self.current, self.heads)
        )
        revisions = [f"current: {current or 'base'}", f"head: {heads or 'none'}"]
        details = [*revisions, *(line for title, values in lists for line in _lines(title, values))]
        return "\n".join([f"{self.state}: {self.meaning}", *map(printable, details), f"next: {self.next}"])

    @property
    def pending_names(self) -> list[str]:
        """The pending revisions by number, message and file, with their phases."""
        return [
            f"{revision['name']} ({revision['file']})" + (f", {revision['phase']}" if revision["phase"] else "")
            for revision in self.pending
        ]


def _backfill_line(backfill: Mapping[str, str | None]) -> str:
    line = f"{backfill['name']}, required by {backfill['required_by'] or 'no revision'}"
    return f"{line}; {backfill['problem']}" if backfill["problem"] else line


def _lines(title: str, values: Sequence[object]) -> list[str]:
    more = len(values) - SHOWN
    rest = [f"{title}: {more} more; to list all, run: safe-migrations state --json"] if more > 0 else []
    return [f"{title}: {value}" for value in values[:SHOWN]] + rest


def read_report(project: Project) -> Report:
    """Read the state of the service's database through env.py, as every Alembic command does; nothing is changed.

    Raises:
        ConnectionFailedError: the database can't be reached.
    """
    reports: list[Report] = []

    def read(_revision: Any, migration_context: MigrationContext) -> list[Any]:
        reports.append(_report(migration_context, project))
        return []

    with EnvironmentContext(project.config, project.script, fn=read, dont_mutate=True):
        project.script.run_env()
    return reports[0]


def _report(migration_context: MigrationContext, project: Project) -> Report:
    connection = migration_context.connection
    if connection is None:
        raise ConfigurationError("This command needs a database: omit --sql.")
    state = read_state(connection, project.script, migration_context.opts)
    meaning, following = explain_state(state, project.service)
    known = [revision for revision in {*state.current, *state.heads} if revision in state.files]
    report = Report(
        state=state.name,
        current=state.current,
        heads=state.heads,
        pending=tuple(map(_pending, state.pending)),
        partly_applied=tuple(map(_partly_applied, state.partly_applied)),
        unacknowledged=tuple(
            f"{os.path.relpath(script.path)}:{request[0]}: {request[1]}"
            for script in state.pending
            if (request := unacknowledged(script)) is not None
        ),
        backfills=tuple(_backfills(connection, project, state)),
        invalid=tuple(index.name for index in state.invalid),
        blockers=tuple(blocking_sessions(connection)),
        meaning=meaning,
        next=following,
        names={script.revision: full_name(script) for script in project.script.get_revisions(known)},
    )
    if state.name in (AT_HEAD, UNTRACKED):
        report = _with_drift(report, migration_context)
    report = _with_optional_backfills(report)
    if state.is_read_only and report.state != AT_HEAD:
        standby = "This server accepts no writes (a standby, or a read-only database)."
        primary = f"First set {project.service.migration_url} to the server that accepts writes."
        return replace(report, next=f"{standby} {primary} {report.next}")
    return report


def _pending(script: Script) -> dict[str, str | None]:
    name, file = number_and_message(script), Path(script.path).name
    return {"revision": script.revision, "name": name, "phase": phase_of(script), "file": file}


def _partly_applied(partly: PartlyApplied) -> dict[str, Any]:
    steps = {"completed": partly.completed, "remaining": partly.remaining}
    file = Path(partly.script.path).name if partly.script else None
    return {"revision": partly.revision, "file": file, "direction": partly.direction, **steps}


def _backfills(connection: Connection, project: Project, state: State) -> Iterable[dict[str, str | None]]:
    if not state.current or state.unknown:
        return ()
    begun = {partly.revision for partly in state.partly_applied}  # whose backfills were complete
    return incomplete_backfills(
        connection, project, [script for script in state.pending if script.revision not in begun]
    )


def _with_optional_backfills(report: Report) -> Report:
    """Name the commands for the backfills that no revision requires, and that no error would report."""
    names = [str(backfill["name"]) for backfill in report.backfills if backfill["required_by"] is None]
    if not names:
        return report
    lines = [
        "Backfills are not complete. To complete the backfills:",
        *(backfill_command(name) for name in names),
    ]
    return replace(report, next="\n".join(lines if report.state == AT_HEAD else [report.next, *lines]))


def _with_drift(report: Report, migration_context: MigrationContext) -> Report:
    if migration_context.opts["target_metadata"] is None:  # without models there is nothing to compare
        return report
    drift, not_compared = find_drift(migration_context)
    report = replace(report, drift=drift, not_compared=not_compared)
    if report.state == UNTRACKED:
        return report
    if not report.drift:
        partly = f"{report.meaning[:-1]}, as far as the models could be compared."
        return replace(report, meaning=partly) if report.not_compared else report
    return replace(
        report,
        state=DRIFT,
        meaning=f"{report.meaning[:-1]}, but the schema differs from the models.",
        next="If the schema is right, correct the models. If the models are right, write a revision:\n"
        "alembic revision --autogenerate -m 'what changes'",
    )
