"""The state of a database."""

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import to_tuple
from sqlalchemy import Connection, text

from safe_migrations import revisions
from safe_migrations.ddl.indexes import CONCURRENT_OPERATIONS
from safe_migrations.ddl.partitions import partition_indexes
from safe_migrations.ddl.step_records import Direction
from safe_migrations.postgres.catalog import InvalidIndex, invalid_indexes, own_relations
from safe_migrations.postgres.statements import parts, pattern
from safe_migrations.upgrade.offline import offline_statements
from safe_migrations.upgrade.partly_applied import PartlyApplied, read_partly_applied
from safe_migrations.upgrade.phases import declared
from safe_migrations.upgrade.project import version_folders

AT_HEAD, FRESH, BEHIND = revisions.AT_HEAD, revisions.FRESH, revisions.BEHIND
UNTRACKED, DRIFT, INVALID_OBJECTS = "untracked", "drift", "invalid objects"
PARTLY_UNDONE = "partly undone"
EXIT_STATUS = {**revisions.EXIT_STATUS, UNTRACKED: 5, DRIFT: 8, INVALID_OBJECTS: 9, PARTLY_UNDONE: 23}
SHOWN = 5  # names in a sentence
_CONCURRENTLY = pattern(r"(?:CREATE (?:UNIQUE )?INDEX|DROP INDEX|REINDEX INDEX) CONCURRENTLY (?:IF EXISTS )?(<name>)")


@dataclass(frozen=True)
class State:
    """A database beside the revisions of this code.

    Attributes:
        database: the database's name.
        current: the revisions that the database is at; none, one, or several where the history has branches.
        heads: the newest revisions of this code.
        unmerged: the heads that belong to one branch.
        target: what upgrades to all heads, `head` or `heads`.
        unknown: the current revisions that this code does not have.
        baseline: the revision that replaces the unknown ones after a squash.
        pending: revisions of this code that the database does not have, in the order in which they would run.
        relations: tables and views, where there is no revision.
        invalid: indexes that a failed concurrent build has left, and that no pending revision builds.
        partly_applied: revisions of which only some steps are completed.
        files: the files of this code's revisions.
        folders: of these files.
        is_read_only: whether the server accepts no writes, such as a standby.
    """

    database: str
    current: tuple[str, ...]
    heads: tuple[str, ...]
    unmerged: tuple[str, ...]
    target: str
    unknown: tuple[str, ...]
    baseline: revisions.Baseline | None
    pending: tuple[Script, ...]
    relations: tuple[str, ...]
    invalid: tuple[InvalidIndex, ...]
    partly_applied: tuple[PartlyApplied, ...]
    files: Mapping[str, Path]
    folders: Sequence[Path]
    is_read_only: bool

    @property
    def revisions(self) -> str:
        """The current revisions, for messages."""
        return revisions.named(self.current, self.files)

    @property
    def name(self) -> str:
        """The first state that applies; drift is not among them, because it needs the models."""
        name = revisions.state_of(
            self.current,
            self.heads,
            unmerged=bool(self.unmerged),
            unknown=bool(self.unknown),
            replaced=self.baseline is not None,
        )
        if name in (revisions.SEVERAL_HEADS, revisions.UNKNOWN_REVISION, revisions.REPLACED_REVISION):
            return name
        if self.interrupted("downgrade"):
            return PARTLY_UNDONE
        if self.interrupted("upgrade") and name == FRESH:
            return BEHIND
        if self.relations:
            return UNTRACKED
        return INVALID_OBJECTS if self.invalid else name

    def interrupted(self, direction: Direction) -> list[PartlyApplied]:
        """The revisions whose upgrade, or downgrade, was interrupted between two steps."""
        return [revision for revision in self.partly_applied if revision.direction == direction]

    def excusing(self, scripts: Sequence[Script]) -> "State":
        """The same state without the invalid indexes that these revisions build, rebuild or drop."""
        if not self.invalid:
            return self
        handled = {name for script in scripts for name in _concurrent_index_names(script)}
        return replace(self, invalid=tuple(index for index in self.invalid if not handled & _names(index, handled)))


def _names(index: InvalidIndex, handled: Iterable[str]) -> set[str]:
    """The names by which a revision may handle an index: its name, and the name of its partitioned index."""
    partition = parts(index.table)[-1]
    whole = {name for name in handled if index.base_name in partition_indexes(partition, name)}
    return {index.base_name, *index.replaced, *whole}


def known_revisions(script_directory: ScriptDirectory) -> revisions.Revisions:
    """The revisions of this code, as Alembic has read them."""
    scripts = {script.revision: script for script in script_directory.walk_revisions()}
    places = {
        revision: revisions.Place(
            to_tuple(script.down_revision, default=()),
            to_tuple(script.dependencies, default=()),
            tuple(script.branch_labels),
            declared(script, "replaces"),
            declared(script, "deploy_first"),
            declared(script, "phase"),
        )
        for revision, script in scripts.items()
    }
    return revisions.Revisions.of({revision: Path(script.path) for revision, script in scripts.items()}, places)


def read_state(connection: Connection, script: ScriptDirectory, options: dict[str, Any]) -> State:
    """Read the state; nothing is changed."""
    migration_context = MigrationContext.configure(connection, opts=options)
    current = tuple(sorted(migration_context.get_current_heads()))
    known = known_revisions(script)
    heads = tuple(sorted(known.heads))
    unknown = tuple(revision for revision in current if revision not in known.files)
    relations: list[str] = []
    if not current:
        relations = own_relations(connection, options)
    pending: list[Script] = []
    if current != heads and not unknown:
        pending = list(script.iterate_revisions("heads", current or "base", implicit_base=True))
    state = State(
        database=connection.engine.url.database or "",
        current=current,
        heads=heads,
        unmerged=tuple(sorted(known.unmerged)),
        target=known.target,
        unknown=unknown,
        baseline=known.baseline_of(unknown),
        pending=tuple(reversed(pending)),
        relations=tuple(relations),
        invalid=tuple(invalid_indexes(connection)),
        partly_applied=read_partly_applied(connection, script, options),
        files=known.files,
        folders=version_folders(script),
        is_read_only=connection.scalar(text("SHOW transaction_read_only")) == "on",
    )
    return state.excusing(state.pending)


def _concurrent_index_names(script: Script) -> set[str]:
    """The indexes that the concurrent operations of a revision build or drop.

    Where that can't be known without running the revision's own code: all strings of its file.
    """
    nodes = list(ast.walk(ast.parse(Path(script.path).read_bytes())))
    if not any(isinstance(node, ast.Attribute) and node.attr in CONCURRENT_OPERATIONS for node in nodes):
        return set()
    strings = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    functions = [offline_statements(script, function) for function in ("upgrade", "downgrade")]
    matches = (_CONCURRENTLY.match(statement) for statements in functions for statement in statements or ())
    return {parts(match[1])[-1] for match in matches if match} | (strings if None in functions else set())
