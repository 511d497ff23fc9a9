"""The revisions that `safe-migrations revision` would write, and their SQL, without writing a file."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import Any, cast

from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from safe_migrations.autogenerate.description_comparison import warn_of_not_compared
from safe_migrations.autogenerate.directives import find_operations, plan
from safe_migrations.autogenerate.ownership import explain_scope
from safe_migrations.autogenerate.plan import PlannedRevision
from safe_migrations.backfill.definition import backfill_command
from safe_migrations.command_line import WIDTH
from safe_migrations.errors import RefusedError
from safe_migrations.logs import quiet
from safe_migrations.postgres.statement_locks import MAY_REWRITE, NONE, UNKNOWN, TableLock, table_lock
from safe_migrations.postgres.statements import split
from safe_migrations.upgrade.explanations import explain_state
from safe_migrations.upgrade.offline import offline_context
from safe_migrations.upgrade.phases import CONTRACT, EXPAND
from safe_migrations.upgrade.project import Project
from safe_migrations.upgrade.states import AT_HEAD, BEHIND, EXIT_STATUS, read_state


@dataclass(frozen=True)
class Step:
    """One step of a revision that would be written.

    Attributes:
        title: what it does.
        sql: what it would run.
        locks: what its statements do to tables in use, each with the strongest lock.
    """

    title: str
    sql: str
    locks: list[TableLock]


@dataclass(frozen=True)
class Preview:
    """One revision that would be written.

    Attributes:
        table: that it changes.
        phase: `expand` or `contract`.
        danger: what would have to be acknowledged; empty for most revisions.
        steps: which commit one after the other.
    """

    table: str
    phase: str
    danger: str
    steps: list[Step]

    def as_text(self) -> str:
        """SQL, with the rest in comments."""
        danger = f"-- to acknowledge: {self.danger}\n" if self.danger else ""
        return danger + "\n\n".join(f"-- {self.phase}: {step.title}\n{step.sql}" for step in self.steps)


@dataclass(frozen=True)
class Plan:
    """What autogenerate would write.

    Attributes:
        revisions: in the order in which they run.
        backfills: the names of the backfills, which run between the phases.
        not_compared: lines that name the tables which were not compared.
    """

    revisions: list[Preview]
    backfills: list[str]
    not_compared: list[str]

    def as_text(self) -> str:
        """A numbered tree, phase by phase, with the locks of each step."""
        numbered = list(enumerate(self.revisions, 1))
        lines: list[str] = []
        for phase, title in _PHASES.items():
            revisions = [revision for revision in numbered if revision[1].phase == phase]
            if phase == CONTRACT and self.backfills:
                lines += [
                    "backfill: while the new code runs",
                    *_tree([[backfill_command(name)] for name in self.backfills]),
                ]
            if revisions:
                lines += [title, *_tree([_node(number, revision) for number, revision in revisions])]
            if phase == EXPAND and (self.backfills or len(revisions) < len(numbered)):
                lines.append("deploy: the new code")
        return "\n".join(lines)


_PHASES = {EXPAND: "expand: before the new code is deployed", CONTRACT: "contract: when the new code runs everywhere"}


def _node(number: int, revision: Preview) -> list[str]:
    danger = [f"to acknowledge: {revision.danger}"] if revision.danger else []
    if len(revision.steps) == 1:
        (step,) = revision.steps
        return [f"{number}. {step.title}", *_indented(3, [*map(str, step.locks), *danger])]
    lines = [f"{number}. {revision.table}", *_indented(3, danger)]
    for place, step in enumerate(revision.steps, 1):
        lines += [f"   {number}.{place} {step.title}", *_indented(7, map(str, step.locks))]
    return lines


def _indented(depth: int, lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield from wrap(line, WIDTH - 3, initial_indent=" " * depth, subsequent_indent=" " * (depth + 2))


def _tree(nodes: list[list[str]]) -> list[str]:
    """The lines of nodes of one level."""
    lines: list[str] = []
    for node in nodes:
        is_last = node is nodes[-1]
        lines.append(f"{'└─' if is_last else '├─'} {node[0]}")
        lines += [f"{' ' if is_last else '│'}  {line}" for line in node[1:]]
    return lines


def read_preview(project: Project) -> Plan:
    """Compare the models with the service's database; nothing is changed and no file is written.

    Raises:
        ConnectionFailedError: the database can't be reached.
        RefusedError: it is not at head.
    """
    plans: list[Plan] = []

    def read(_revision: Any, migration: MigrationContext) -> list[Any]:
        connection = cast(Connection, migration.connection)  # preview has no offline mode
        state = read_state(connection, project.script, migration.opts)
        if state.name != AT_HEAD:
            meaning, following = explain_state(state, project.service)
            if state.name == BEHIND:
                following = (
                    f"The models are compared with a database at head. First run:\nalembic upgrade {state.target}"
                )
            raise RefusedError(f"{meaning} {following}", EXIT_STATUS[state.name])
        with quiet("alembic"), quiet("safe_migrations.autogenerate"):  # the preview shows every difference itself
            revisions, backfills = plan(migration, find_operations(migration))
        warn_of_not_compared(migration)
        names = [backfill.name for backfill in backfills]
        plans.append(Plan([*map(_preview, revisions)], names, list(explain_scope(migration.opts))))
        return []

    with EnvironmentContext(project.config, project.script, fn=read, dont_mutate=True):
        project.script.run_env()
    return plans[0]


def _preview(revision: PlannedRevision) -> Preview:
    steps: list[Step] = []
    earlier: list[str] = []
    for step in revision.steps:
        output = io.StringIO()
        operations = Operations(offline_context(output))
        for operation in step.upgrade:
            operations.invoke(operation)
        sql = output.getvalue().strip()
        statements = [plain for _, plain in split(sql)]
        steps.append(Step(step.title, sql, _locks(revision, statements, earlier)))
        earlier += statements
    return Preview(revision.table, revision.phase, revision.danger, steps)


def _locks(revision: PlannedRevision, statements: list[str], earlier: list[str]) -> list[TableLock]:
    """The locks on tables in use, each once."""
    locks = [table_lock(statement) for statement in statements]
    validates = any(" VALIDATE CONSTRAINT " in statement for statement in (*earlier, *statements))
    for index, statement in enumerate(statements):
        lock = locks[index]
        # PostgreSQL needs no scan: autogenerate has just validated a check that the column is not null.
        is_validated = validates and statement.endswith(" SET NOT NULL")
        # Autogenerate, which has tried the change of a type on PostgreSQL, has every rewrite acknowledged.
        is_spared = lock.work == MAY_REWRITE and not revision.danger
        table = lock.table or ("" if lock.mode in (NONE, UNKNOWN) else revision.table)  # DROP INDEX has no table
        locks[index] = replace(lock, table=table, work="" if is_validated or is_spared else lock.work)
    working = {(lock.mode, lock.table) for lock in locks if lock.work}
    shown = [lock for lock in locks if lock.mode != NONE and (lock.work or (lock.mode, lock.table) not in working)]
    return list(dict.fromkeys(shown)) or locks[:1]
