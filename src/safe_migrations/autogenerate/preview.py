"""The revisions that `safe-migrations revision` would write, and their SQL, without writing a file."""

import io
from dataclasses import dataclass
from typing import Any, cast

from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from safe_migrations.autogenerate.description_comparison import warn_of_not_compared
from safe_migrations.autogenerate.directives import find_operations, plan
from safe_migrations.autogenerate.ownership import explain_scope
from safe_migrations.autogenerate.plan import PlannedStep
from safe_migrations.errors import RefusedError
from safe_migrations.logs import quiet
from safe_migrations.upgrade.offline import offline_context
from safe_migrations.upgrade.project import Project
from safe_migrations.upgrade.states import AT_HEAD, BEHIND, EXIT_STATUS, explain_state, read_state


@dataclass(frozen=True)
class Preview:
    """One step of a revision that would be written.

    Attributes:
        title: what it does.
        phase: `expand` or `contract`.
        danger: what would have to be acknowledged; empty for most revisions.
        sql: what it would run.
    """

    title: str
    phase: str
    danger: str
    sql: str

    def as_text(self) -> str:
        """SQL, with the rest in comments."""
        danger = f"-- to acknowledge: {self.danger}\n" if self.danger else ""
        return f"-- {self.phase}: {self.title}\n{danger}{self.sql}"


def read_preview(project: Project) -> tuple[list[Preview], list[str]]:
    """Compare the models with the service's database; nothing is changed and no file is written.

    Returns:
        The revisions, and lines that name the tables which were not compared.

    Raises:
        ConnectionFailedError: the database can't be reached.
        RefusedError: it is not at head.
    """
    previews: list[Preview] = []
    not_compared: list[str] = []

    def read(_revision: Any, migration: MigrationContext) -> list[Any]:
        connection = cast(Connection, migration.connection)  # preview has no offline mode
        state = read_state(connection, project.script, migration.opts)
        if state.name != AT_HEAD:
            meaning, following = explain_state(state, project.service)
            if state.name == BEHIND:
                following = (
                    f"The models are compared with a database at head. Run this first:\nalembic upgrade {state.target}"
                )
            raise RefusedError(f"{meaning} {following}", EXIT_STATUS[state.name])
        with quiet("alembic"), quiet("safe_migrations.autogenerate"):  # the preview shows every difference itself
            revisions, _ = plan(migration, find_operations(migration))
        warn_of_not_compared(migration)
        previews.extend(_preview(step) for revision in revisions for step in revision.steps)
        not_compared.extend(explain_scope(migration.opts))
        return []

    with EnvironmentContext(project.config, project.script, fn=read, dont_mutate=True):
        project.script.run_env()
    return previews, not_compared


def _preview(step: PlannedStep) -> Preview:
    output = io.StringIO()
    operations = Operations(offline_context(output))
    for operation in step.upgrade:
        operations.invoke(operation)
    return Preview(step.title, step.phase, step.danger, output.getvalue().strip())
