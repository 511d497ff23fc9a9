"""From the differences between models and database to a series of safe revisions: `alembic revision --autogenerate`."""

import os
from collections.abc import Sequence
from pathlib import Path

from alembic.autogenerate import produce_migrations
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation
from alembic.operations.ops import DowngradeOps, MigrationScript, UpgradeOps
from alembic.runtime.migration import MigrationContext
from alembic.util import rev_id
from sqlalchemy import MetaData

from safe_migrations.autogenerate.backfill_files import BackfillFile
from safe_migrations.autogenerate.comparison import Differences
from safe_migrations.autogenerate.enum_types import managed_columns
from safe_migrations.autogenerate.formatting import find_ruff, format_with_ruff
from safe_migrations.autogenerate.plan import Step, in_steps
from safe_migrations.autogenerate.rewrite.dispatch import safe_pieces
from safe_migrations.autogenerate.script import DECLARATIONS, calls_declarations


def write_series(migration: MigrationContext, directives: list[MigrationScript]) -> None:
    """Replace what autogenerate has found by revisions that are safe to run.

    Args:
        migration: the running command's.
        directives: Alembic's one revision; in its place come those of the series, or none if nothing differs.
    """
    if not _autogenerates(migration) or len(directives) != 1:  # none: the project's own directives left nothing
        return
    (found,) = directives
    operations = found.upgrade_ops.ops if found.upgrade_ops else []
    steps, backfills = safe_series(migration, operations)
    if not steps:
        directives.clear()
        print("The models and the database agree: there is nothing to migrate, and no file was written.")
        return
    directives[:] = _scripts(found, steps)
    context = migration.environment_context
    if context is None:
        return
    declarations = {script.rev_id: step.declarations() for script, step in zip(directives, steps, strict=True)}
    context.config.attributes[DECLARATIONS] = declarations
    if not calls_declarations(Path(context.script.dir)):
        for script in directives:
            script.imports.add(declarations[script.rev_id])
    for backfill in backfills:
        path = backfill.write(Path(context.script.dir, "backfills"))
        if find_ruff() is not None:
            format_with_ruff(str(path))
        advice = "" if backfill.value else f": write there what {backfill.table}.{backfill.column} becomes"
        print(f"Wrote {os.path.relpath(path)}{advice}")


def safe_series(
    migration: MigrationContext, operations: Sequence[MigrateOperation]
) -> tuple[list[Step], list[BackfillFile]]:
    """The revisions that make these changes, in the order in which they run, and the backfills that they need.

    Args:
        migration: with a connection to the database, and the models' metadata.
        operations: what Alembic has found.
    """
    if migration.connection is None or not operations:
        return [], []
    tables = AutogenContext(migration, _metadata(migration), autogenerate=False).table_key_to_table
    differences = Differences(operations, migration.connection, tables)
    steps = in_steps(safe_pieces(differences))
    for step in steps:
        for operation in (*step.upgrade(), *step.downgrade()):
            managed_columns(operation)
    return steps, differences.backfills


def find_differences(migration: MigrationContext) -> list[MigrateOperation]:
    """What Alembic finds.

    Args:
        migration: with a connection to the database, and the models' metadata.
    """
    found = produce_migrations(migration, _metadata(migration)).upgrade_ops
    return list(found.ops) if found else []


def _metadata(migration: MigrationContext) -> MetaData:
    metadata: MetaData = migration.opts["target_metadata"]
    return metadata


def _autogenerates(migration: MigrationContext) -> bool:
    """Whether files are to be written; `alembic check` passes here as well, and wants Alembic's own differences."""
    context = migration.opts.get("revision_context")
    called: str = migration.opts["fn"].__qualname__
    return called.startswith("revision.") and bool(context and context.command_args["autogenerate"])


def _scripts(found: MigrationScript, steps: list[Step]) -> list[MigrationScript]:
    """A directive for each step; the first one is Alembic's own, with what the command line says of it."""
    scripts: list[MigrationScript] = []
    for step in steps:
        message = found.message if len(steps) == 1 else f"{found.message or 'change'}: {step.title}"
        first = not scripts
        scripts.append(
            MigrationScript(
                rev_id=found.rev_id if first else rev_id(),
                upgrade_ops=UpgradeOps(step.upgrade()),
                downgrade_ops=DowngradeOps(step.downgrade()),
                message=message,
                imports=set(found.imports),
                head=found.head if first else scripts[-1].rev_id,
                splice=found.splice if first else None,
                branch_label=found.branch_label if first else None,
                version_path=found.version_path,
                depends_on=found.depends_on if first else None,
            )
        )
    return scripts
