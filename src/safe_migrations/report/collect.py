"""What a report is made of: lint of the pending revisions, and what they do to tables with rows."""

from dataclasses import dataclass, field
from functools import partial

from alembic.config import Config
from alembic.script import Script

from safe_migrations.dev.cluster import server_for_tests
from safe_migrations.errors import MigrationError
from safe_migrations.history.frozen import new_revisions
from safe_migrations.lint.check import lint
from safe_migrations.lint.findings import Finding
from safe_migrations.lint.still_in_models import load_models
from safe_migrations.logs import quiet
from safe_migrations.operate.rehearse import Rehearsed, pending_revisions, rehearse
from safe_migrations.postgres.connection import run_async
from safe_migrations.postgres.creation import scratch_database
from safe_migrations.postgres.database import Database
from safe_migrations.trace.phase_check import not_allowed, trace_with_rows
from safe_migrations.upgrade.loading import load_revisions
from safe_migrations.upgrade.project import Project, load_project


@dataclass
class MigrationReport:
    """Lint and rehearsal of revisions.

    Attributes:
        service: the service's name.
        on_copy: whether the revisions ran on a copy of the configured database, or on generated rows.
        revisions: the pending ones, in order.
        findings: of lint, in these revisions and in the history as a whole.
        rehearsed: what the revisions did, up to the first one that failed.
        not_allowed: a sentence for each effect that the phase of a revision does not allow.
        failure: why not all revisions ran; None if they did.
    """

    service: str
    on_copy: bool
    revisions: list[Script]
    findings: list[Finding]
    rehearsed: list[Rehearsed] = field(default_factory=list)
    not_allowed: list[str] = field(default_factory=list)
    failure: MigrationError | None = None


def collect(config: Config, *, on_copy: bool) -> MigrationReport:
    """Lint revisions, and run them.

    Args:
        on_copy: whether to copy the configured database and run its pending revisions on the copy. By default, the
            revisions that are not on the main branch run on an empty database with generated rows.

    Raises:
        MigrationError: the pending revisions can't be known, or lint can't run.
    """
    project = load_project(config)
    load_revisions(project.script)
    revisions = pending_revisions(project) if on_copy else new_revisions(project.script)
    with quiet("alembic"):  # not a line for each revision whose SQL is written
        findings = lint(project.script, revisions, project.service.postgres_version, partial(load_models, config))
    report = MigrationReport(project.service.name, on_copy, revisions, findings)
    try:
        if on_copy and revisions:
            run_async(rehearse(project, revisions, report.rehearsed))
        elif revisions:
            with server_for_tests(project.service) as url:
                run_async(_run_with_rows(project, Database(url, project.service), report))
    except MigrationError as error:
        report.failure = error
    return report


async def _run_with_rows(project: Project, server: Database, report: MigrationReport) -> None:
    async with scratch_database(server, project.service.database_name, "template1") as database:
        async for script, trace in trace_with_rows(project, database, report.revisions):
            report.rehearsed.append(Rehearsed.of(script, trace, {}))
            report.not_allowed += not_allowed(trace, script)
