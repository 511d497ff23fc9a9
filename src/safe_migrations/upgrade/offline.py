"""Running revisions offline: their SQL is written instead of executed, without a database."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TextIO

from alembic import context
from alembic.runtime.migration import MigrationContext, RevisionStep

from safe_migrations.backfill.definition import COMMAND, required_backfills
from safe_migrations.postgres.sql import ddl
from safe_migrations.upgrade.phases import refuse_unacknowledged

_CONFIGURATION: dict[str, Any] = {"url": "postgresql+asyncpg://", "dialect_opts": {"paramstyle": "named"}}
_OPTIONS = {"as_sql": True, "literal_binds": True}


def offline_context(output: TextIO) -> MigrationContext:
    """A context in which operations write their SQL.

    Args:
        output: gets the SQL.
    """
    return MigrationContext.configure(**_CONFIGURATION, opts={**_OPTIONS, "output_buffer": output})


def run_offline(options: dict[str, Any], settings: dict[str, str]) -> None:
    """Run Alembic's command offline.

    Args:
        options: what `context.configure` takes.
        settings: that the script makes for its session.

    Raises:
        NotConfirmedError: the danger of a revision is not acknowledged.
    """
    configuration = {**_CONFIGURATION, **_OPTIONS, **options}
    context.configure(**configuration)
    function = context.get_context().opts["fn"]
    if function.__name__ == "upgrade":
        context.configure(fn=partial(_with_backfills, function), **configuration)
    for name, value in settings.items():
        context.execute(ddl("SET %(name)s = '%(value)s'", name=name, value=value))
    with context.begin_transaction():
        context.run_migrations()


def _with_backfills(function: Callable[..., Iterable[RevisionStep]], heads: Any, migration: Any) -> Iterable[Any]:
    """The steps of a script, with a comment where an upgrade would check that a backfill is complete."""
    steps = list(function(heads, migration))
    refuse_unacknowledged(step.revision for step in steps)
    for step in steps:
        for name in required_backfills(step.revision):
            migration.impl.static_output(f"-- Only if this is complete: {COMMAND} {name}")
        yield step
