"""What env.py gives to Alembic's autogenerate, imported when it is needed: an upgrade does not wait for it."""

from typing import Any

from alembic.operations.ops import MigrationScript
from alembic.runtime.migration import MigrationContext
from alembic.runtime.plugins import Plugin
from alembic.util import DispatchPriority, PriorityDispatchResult

from safe_migrations.backfill.definition import SCHEMA

# Alembic's own; checks, by their names; enums.
PLUGINS = ["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname", "safe_migrations.ddl.enums"]


def write_series(migration: MigrationContext, revision: Any, directives: list[MigrationScript]) -> None:
    """`process_revision_directives`: replace what autogenerate has found by revisions that are safe to run.

    Args:
        migration: the running command's.
        revision: the one that the database is at.
        directives: Alembic's one revision; in its place come those of the series, or none if nothing differs.
    """
    from safe_migrations.autogenerate.revisions import write_series

    write_series(migration, directives)


def include_name(name: str | None, kind: str, _parents: Any) -> bool:
    """`include_name`: with `include_schemas`, autogenerate leaves out the schema of the backfills' progress.

    Args:
        name: what it is called.
        kind: such as `schema` or `table`.
    """
    return (kind, name) != ("schema", SCHEMA)


def _compare_enums(*arguments: Any) -> PriorityDispatchResult:
    from safe_migrations.autogenerate.enum_changes import compare_enums

    return compare_enums(*arguments)


def _compare_default(*arguments: Any) -> PriorityDispatchResult:
    from safe_migrations.autogenerate.enum_changes import compare_default

    return compare_default(*arguments)


_enums = Plugin(PLUGINS[-1])
_enums.add_autogenerate_comparator(_compare_enums, "autogenerate", "enums", priority=DispatchPriority.LAST)
_enums.add_autogenerate_comparator(_compare_default, "column", "server_default", priority=DispatchPriority.FIRST)
