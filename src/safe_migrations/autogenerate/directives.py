"""`alembic revision --autogenerate`: Alembic's one directive is replaced by one for each planned revision."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from alembic.autogenerate import produce_migrations
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation
from alembic.operations.ops import DowngradeOps, MigrationScript, UpgradeOps
from alembic.runtime.migration import MigrationContext
from alembic.util import rev_id
from sqlalchemy import MetaData

from safe_migrations.autogenerate.column_types import managed_columns, name_unknown_types
from safe_migrations.autogenerate.comparison import Comparison
from safe_migrations.autogenerate.description_comparison import warn_of_not_compared
from safe_migrations.autogenerate.grouping import plan_revisions
from safe_migrations.autogenerate.new_backfill import NewBackfill
from safe_migrations.autogenerate.ownership import explain_scope
from safe_migrations.autogenerate.parameters import escape_in_files, predicate_as_text
from safe_migrations.autogenerate.plan import PlannedRevision
from safe_migrations.autogenerate.questions import answered
from safe_migrations.autogenerate.rewrite import rewrite_all
from safe_migrations.autogenerate.script import DECLARATIONS, calls_declarations
from safe_migrations.autogenerate.written_files import finish_when_written
from safe_migrations.history.messages import is_meaningless
from safe_migrations.history.unreleased import unreleased_tables
from safe_migrations.printable import printable
from safe_migrations.upgrade.phases import CONTRACT
from safe_migrations.upgrade.running_command import autogenerates


def write_plan(migration: MigrationContext, directives: list[MigrationScript]) -> None:
    """Replace Alembic's one directive by a directive for each planned revision, or by none if nothing differs."""
    if directives:  # of `check` as well
        warn_of_not_compared(migration)
    if not autogenerates(migration.opts) or len(directives) != 1:  # none: the project's own directives have dropped it
        return
    (original,) = directives
    escape_in_files(migration.impl)
    operations = original.upgrade_ops.ops if original.upgrade_ops else []
    revisions, backfills = plan(migration, operations, original.message or "change")
    for line in explain_scope(migration.opts):
        print(printable(line))
    if not revisions:
        directives.clear()
        print("No difference between the models and the database was found; no file was written.")
        return
    directives[:] = _directives(original, revisions)
    context = migration.environment_context
    if context is None:
        return
    if is_meaningless(original.message or "", is_first=not context.script.get_heads()):
        print(
            f"Warning: the message {original.message!r} does not say what changes (rule of lint: meaningless-message). "
            "Correct the message in the first line of each new file.",
            file=sys.stderr,
        )
    planned = {str(directive.rev_id): revision for directive, revision in zip(directives, revisions, strict=True)}
    declarations = {revision: planned[revision].declarations() for revision in planned}
    context.config.attributes[DECLARATIONS] = declarations
    if not calls_declarations(Path(context.script.dir)):
        for directive in directives:
            directive.imports.add(declarations[str(directive.rev_id)])
    for backfill in backfills:
        backfill.write(Path(context.script.dir, "backfills"))
    finish_when_written(context.script, planned, backfills)


def plan(
    migration: MigrationContext, operations: Sequence[MigrateOperation], message: str | None = None
) -> tuple[list[PlannedRevision], list[NewBackfill]]:
    """The safe revisions for Alembic's operations, in the order in which they run, and the backfills that they need.

    Args:
        message: of the revision that is written, whose author is asked where one would have to guess; None for a
            preview, which asks nothing.

    Raises:
        NotConfirmedError: a question is open and can't be asked.
    """
    if migration.connection is None or not operations:
        return [], []
    tables = AutogenContext(migration, _metadata(migration), autogenerate=False).table_key_to_table
    context = migration.environment_context
    comparison = Comparison(
        operations,
        migration.connection,
        tables,
        is_first=not migration.get_current_heads(),
        unreleased=unreleased_tables(context.script) or () if context is not None else (),
    )
    with nullcontext(comparison) if message is None else answered(comparison, migration, message) as comparison:
        revisions = plan_revisions(rewrite_all(comparison))
    for revision in revisions:
        for change in revision.changes:
            for operation in (*change.upgrade, *change.downgrade):
                name_unknown_types(operation, migration.connection)
                managed_columns(operation)
                predicate_as_text(operation)
    return revisions, comparison.backfills


def find_operations(migration: MigrationContext) -> list[MigrateOperation]:
    """The operations that Alembic finds."""
    operations = produce_migrations(migration, _metadata(migration)).upgrade_ops
    return list(operations.ops) if operations else []


def _metadata(migration: MigrationContext) -> MetaData:
    metadata: MetaData = migration.opts["target_metadata"]
    return metadata


def _directives(original: MigrationScript, revisions: list[PlannedRevision]) -> list[MigrationScript]:
    """A directive for each revision; the first one keeps what the command line has set in Alembic's."""
    directives: list[MigrationScript] = []
    for revision, message in zip(revisions, _messages(original.message or "change", revisions), strict=True):
        first = not directives
        directives.append(
            MigrationScript(
                rev_id=original.rev_id if first else rev_id(),
                upgrade_ops=UpgradeOps(revision.upgrade),
                downgrade_ops=DowngradeOps(revision.downgrade),
                message=message,
                imports=set(original.imports),
                head=original.head if first else directives[-1].rev_id,
                splice=original.splice if first else None,
                branch_label=original.branch_label if first else None,
                version_path=original.version_path,
                depends_on=original.depends_on if first else None,
            )
        )
    return directives


def _messages(message: str, revisions: list[PlannedRevision]) -> Iterator[str]:
    """The message of each revision, which names the file: with table and phase if the revisions differ there."""
    tables = Counter(revision.phase for revision in revisions)
    parts = Counter[tuple[str, str]]()
    for revision in revisions:
        parts[revision.phase, revision.table] += 1
        number = parts[revision.phase, revision.table]
        differing = (
            revision.table if tables[revision.phase] > 1 else "",
            str(number) if number > 1 else "",
            revision.phase if revision.phase == CONTRACT and len(tables) > 1 else "",
        )
        where = ", ".join(filter(None, differing))
        yield f"{message} ({where})" if where else message
