"""What `pdm run migrate-revision` would write, without writing it: the differences, the revisions, and their SQL."""

import io
from dataclasses import dataclass
from typing import Any

from alembic.operations import MigrateOperation, Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext

from safe_migrations.autogenerate.plan import Step
from safe_migrations.autogenerate.revisions import find_differences, safe_series
from safe_migrations.errors import MigrationError, RefusedError
from safe_migrations.logs import quiet
from safe_migrations.upgrade.project import Project
from safe_migrations.upgrade.states import AT_HEAD, BEHIND, EXIT_STATUS, explain_state, read_state


@dataclass(frozen=True)
class Preview:
    """One revision that would be written.

    Attributes:
        title: what it does.
        phase: `expand` or `contract`.
        danger: what somebody would have to acknowledge; nothing in most.
        sql: what it would run.
    """

    title: str
    phase: str
    danger: str
    sql: str

    def as_text(self) -> str:
        """For people, and for psql: all but the SQL is in comments."""
        head = f"-- {self.phase}: {self.title}"
        return "\n".join([head, *([f"-- to acknowledge: {self.danger}"] if self.danger else []), self.sql])


def read_preview(project: Project) -> list[Preview]:
    """Compare the models with the service's database; nothing is changed and no file is written.

    Args:
        project: the service's.

    Raises:
        MigrationError: the database can't be reached, or is not at head.
    """
    previews: list[Preview] = []

    def read(_revision: Any, migration: MigrationContext) -> list[Any]:
        if migration.connection is None:
            raise MigrationError("This needs a database: leave out --sql.")
        state = read_state(migration.connection, project.script, migration.opts)
        if state.name != AT_HEAD:
            found, following = explain_state(state, project.service)
            if state.name == BEHIND:
                following = "Only at head can it be compared with the models: alembic upgrade head, then again."
            raise RefusedError(f"{found} {following}", EXIT_STATUS[state.name])
        with quiet("alembic"):  # the preview tells it all
            steps, _ = safe_series(migration, find_differences(migration))
        previews.extend(_preview(step) for step in steps)
        return []

    with EnvironmentContext(project.config, project.script, fn=read, dont_mutate=True):
        project.script.run_env()
    return previews


def _preview(step: Step) -> Preview:
    return Preview(step.title, step.phase, step.danger, _sql(step.upgrade()))


def _sql(operations: list[MigrateOperation]) -> str:
    output = io.StringIO()
    migration = MigrationContext.configure(
        url="postgresql+asyncpg://",
        dialect_opts={"paramstyle": "named"},
        opts={"as_sql": True, "literal_binds": True, "output_buffer": output},
    )
    for operation in operations:
        Operations(migration).invoke(operation)
    return output.getvalue().strip()
