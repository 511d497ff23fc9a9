"""Running revisions offline: their SQL is written instead of executed, without a database."""

import io
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from alembic import context
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import Script

from safe_migrations.backfill.definition import backfill_command, required_backfills
from safe_migrations.ddl.schemas import create_version_schema
from safe_migrations.ddl.steps import steps_offline
from safe_migrations.postgres.sql import ddl
from safe_migrations.postgres.statements import split
from safe_migrations.upgrade.inert import is_inert
from safe_migrations.upgrade.preconditions import refuse_unacknowledged
from safe_migrations.upgrade.steps import load, refuse_exit

_CONFIGURATION: dict[str, Any] = {"url": "postgresql+asyncpg://", "dialect_opts": {"paramstyle": "named"}}
_OPTIONS = {"as_sql": True, "literal_binds": True}


class _Statements(io.StringIO):
    """Splits each text that Alembic writes by itself, because a comment at its end hides the semicolon."""

    def __init__(self) -> None:
        super().__init__()
        self.statements: list[tuple[str, str]] = []

    def write(self, text: str) -> int:
        self.statements.extend(split(text))
        return len(text)


def offline_context(output: TextIO) -> MigrationContext:
    """A context in which operations write their SQL."""
    migration = MigrationContext.configure(**_CONFIGURATION, opts={**_OPTIONS, "output_buffer": output})
    steps_offline(migration)
    return migration


def offline_statements(script: Script, function: str, completed: Collection[str] = ()) -> list[str] | None:
    """As `offline_sql`, without the statements as they stand."""
    statements = offline_sql(script, function, completed)
    return None if statements is None else [plain for _, plain in statements]


def offline_sql(script: Script, function: str, completed: Collection[str] = ()) -> list[tuple[str, str]] | None:
    """The statements of a revision, each as it stands, and on one line without comments and contents of literals.

    Args:
        completed: the steps to leave out.

    Returns:
        None if the revision does more than call operations, or needs a database: then none of its code is run.
    """
    output = _Statements()
    try:
        if not is_inert(script.module, Path(script.path), function):
            return None
        # In a module of its own: what a function uses up, or adds to MetaData, it can't do again when it runs.
        migration = offline_context(output)
        steps_offline(migration, completed)
        with Operations.context(migration):
            getattr(load(script), function, lambda: None)()
    except (Exception, SystemExit):  # any error: the revision expected a database
        return None
    return output.statements


def run_offline(options: dict[str, Any], settings: dict[str, str]) -> None:
    """Run Alembic's command offline.

    Args:
        settings: that the script makes for its session.

    Raises:
        NotConfirmedError: the danger of a revision is not acknowledged.
    """
    configuration = {**_CONFIGURATION, **_OPTIONS, **options}
    context.configure(**configuration)
    function = context.get_context().opts["fn"]
    if getattr(function, "__name__", None) in ("upgrade", "downgrade"):
        context.configure(fn=partial(_with_backfills, function), **configuration)
    for name, value in settings.items():
        context.execute(ddl("SET %(name)s = '%(value)s'", name=name, value=value))
    with context.begin_transaction():
        context.run_migrations()


def _with_backfills(function: Callable[..., Iterable[RevisionStep]], heads: Any, migration: Any) -> Iterable[Any]:
    """The steps of a script, with a comment where an upgrade would check that a backfill is complete."""
    if not heads:
        create_version_schema(migration)
    steps = list(function(heads, migration))
    refuse_unacknowledged(step.revision for step in steps if step.is_upgrade)
    for step in steps:
        refuse_exit(step)
        steps_offline(migration)
        for name in required_backfills(step.revision) if step.is_upgrade else ():
            migration.impl.static_output(f"-- Requires that this is complete: {backfill_command(name)}")
        yield step
