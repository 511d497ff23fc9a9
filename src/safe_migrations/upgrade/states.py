"""What state a database is in, and what to do about it."""

import ast
import os
import re
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from safe_migrations.backfill.definition import required_backfills
from safe_migrations.ddl.indexes import CONCURRENT_OPERATIONS
from safe_migrations.errors import MigrationError, RefusedError
from safe_migrations.postgres.catalog import InvalidIndex, invalid_indexes, own_relations
from safe_migrations.postgres.connection import reason
from safe_migrations.service import Service
from safe_migrations.upgrade.phases import up_to_contract
from safe_migrations.upgrade.project import version_folders

SEVERAL_HEADS = "several heads"
UNKNOWN_REVISION = "unknown revision"
UNTRACKED = "untracked"
INVALID_OBJECTS = "invalid objects"
FRESH = "fresh"
BEHIND = "behind"
DRIFT = "drift"
AT_HEAD = "at head"

EXIT_STATUS = {
    AT_HEAD: 0,
    FRESH: 3,
    BEHIND: 4,
    UNTRACKED: 5,
    UNKNOWN_REVISION: 6,
    SEVERAL_HEADS: 7,
    DRIFT: 8,
    INVALID_OBJECTS: 9,
}
SHOWN = 5  # names in a sentence


@dataclass(frozen=True)
class State:
    """A database beside the revisions of this code.

    Attributes:
        database: the database's name.
        current: the revisions that the database is at; none, one, or several where the history has branches.
        heads: the newest revisions of this code.
        unknown: those of `current` that this code does not have.
        pending: revisions of this code that the database does not have, in the order in which they would run.
        relations: tables and views, where there is no revision.
        invalid: indexes that a failed concurrent build has left, and that no pending revision builds.
    """

    database: str
    current: tuple[str, ...]
    heads: tuple[str, ...]
    unknown: tuple[str, ...]
    pending: tuple[Script, ...]
    relations: tuple[str, ...]
    invalid: tuple[InvalidIndex, ...]

    @property
    def revisions(self) -> str:
        """The current revisions, as a person reads them."""
        return ", ".join(self.current) or "base"

    @property
    def name(self) -> str:
        """The first state that applies; drift needs the models, and is not told here."""
        if len(self.heads) > 1:
            return SEVERAL_HEADS
        if self.unknown:
            return UNKNOWN_REVISION
        if self.relations:
            return UNTRACKED
        if self.invalid:
            return INVALID_OBJECTS
        if not self.current:
            return FRESH
        return BEHIND if self.pending else AT_HEAD

    def excusing(self, scripts: Sequence[Script]) -> "State":
        """The same, without the invalid indexes that these revisions build, rebuild or drop by themselves.

        Args:
            scripts: revisions that are about to run.
        """
        if not self.invalid:
            return self
        handled = {name for script in scripts for name in _concurrent_index_names(Path(script.path))}
        return replace(self, invalid=tuple(index for index in self.invalid if index.base_name not in handled))


def load_revisions(script_directory: ScriptDirectory) -> None:
    """Import the revision files.

    Args:
        script_directory: the history.

    Raises:
        CommandError: they don't fit together.
        MigrationError: names the one that can't be imported.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* is not present")  # below, with what to do
            script_directory.get_heads()
    except CommandError:
        raise
    except Exception as error:
        frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
        if isinstance(error, SyntaxError):
            frames.append((error.filename or "", error.lineno))
        folders = version_folders(script_directory)
        inside = [(file, line) for file, line in frames if any(Path(file).is_relative_to(each) for each in folders)]
        files = [f"{os.path.relpath(file)}:{line}" for file, line in inside]
        if isinstance(error, KeyError) and not files:
            raise _missing(folders, str(error.args[0])) from error
        place = files[-1] if files else "A revision file"
        message = f"{place} can't be read ({reason(error)}): correct it, then run the same command again."
        raise MigrationError(message) from error


def _missing(folders: Sequence[Path], revision: str) -> MigrationError:
    """The error of a revision that another one follows, and that no file has."""
    names = re.compile(rf"^(?:down_revision|depends_on)\b.*['\"]{re.escape(revision)}['\"]", re.MULTILINE)
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    following = [os.path.relpath(file) for file in files if names.search(file.read_text(errors="replace"))]
    where = " ".join(os.path.relpath(folder) for folder in folders)
    return MigrationError(
        f"{' and '.join(following) or 'A revision'} follows revision {revision}, and no file in {where} has that one: "
        "it was deleted, or its id was changed. Databases may have run it: restore its file "
        f"(git log --all --oneline -S {revision} -- {where} finds it), then run the same command again."
    )


def read_state(connection: Connection, script: ScriptDirectory, options: dict[str, Any]) -> State:
    """Read the state; nothing is changed.

    Args:
        connection: to the database.
        script: this code's revisions.
        options: what `context.configure` takes, for the version table's name.
    """
    migration_context = MigrationContext.configure(connection, opts=options)
    current = tuple(sorted(migration_context.get_current_heads()))
    heads = tuple(sorted(script.get_heads()))
    unknown = tuple(revision for revision in current if not _is_known(script, revision))
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
        unknown=unknown,
        pending=tuple(reversed(pending)),
        relations=tuple(relations),
        invalid=tuple(invalid_indexes(connection)),
    )
    return state.excusing(state.pending)


def refuse_unsafe(state: State, service: Service) -> None:
    """Stop an upgrade or a downgrade of a database in which it could do harm.

    Args:
        state: the database's.
        service: whose database it is, to name its variables in an error.

    Raises:
        RefusedError: with what was found and what to do next; its exit status is the state's.
    """
    if state.name not in (FRESH, BEHIND, AT_HEAD):
        raise refusal(state, service)


def refusal(state: State, service: Service) -> RefusedError:
    """What is raised because of a database's state.

    Args:
        state: the database's.
        service: whose database it is.
    """
    found, following = explain_state(state, service)
    return RefusedError(f"{found} Nothing was changed. {following}", EXIT_STATUS[state.name])


def explain_state(state: State, service: Service) -> tuple[str, str]:
    """What the state means, and what to do next: two texts of a sentence or two.

    Args:
        state: the database's.
        service: whose database it is.
    """
    url = service.settings
    name, database = state.name, repr(state.database)
    if name == SEVERAL_HEADS:
        return (
            f"This code has several heads ({', '.join(state.heads)}): two branches have each added a revision.",
            "Put yours after the other, if no database has it yet: safe-migrations rebase. If one has: "
            'alembic merge -m "merge heads" heads',
        )
    if name == UNKNOWN_REVISION:
        unknown = ", ".join(state.unknown)
        return (
            f"The database {database} is at revision {unknown}, which this code does not have: the database is newer "
            "than this code, or another service's.",
            f"Run this from the release that has it (git log --all --oneline -S {state.unknown[0]} -- alembic/versions "
            f"finds it), or correct {url}.",
        )
    if name == UNTRACKED:
        shown = ", ".join(state.relations[:SHOWN]) + (", …" if len(state.relations) > SHOWN else "")
        return (
            f"The database {database} has tables but no revision ({len(state.relations)}: {shown}): it was made "
            "without migrations, or it is another's.",
            "See how it differs from the models: safe-migrations state. If they are this service's tables "
            f"and nothing differs: alembic stamp {', '.join(state.heads) or 'head'}. If it is the wrong database: "
            f"correct {url}.",
        )
    if name == INVALID_OBJECTS:
        indexes = ", ".join(f"{index.name} on {index.table}" for index in state.invalid)
        repair = "; ".join(
            f"{'REINDEX' if index.base_name == index.bare_name else 'DROP'} INDEX CONCURRENTLY {index.name}"
            for index in state.invalid
        )
        return (
            f"The database {database} has invalid indexes, which a failed concurrent build has left ({indexes}): "
            "writes pay for them, and no query uses them.",
            f"Repair them in psql (safe-migrations db-shell): {repair}; then run the same command again.",
        )
    if name == FRESH:
        return f"The database {database} is empty.", "Build the schema: alembic upgrade head"
    if name == BEHIND:
        found = f"The database {database} is at revision {state.revisions}; revisions to run: {len(state.pending)}."
        if len(up_to_contract(state.pending)) == len(state.pending):
            return found, "Run them: alembic upgrade head"
        return found, _next_phase(state.pending)
    return f"The database {database} is at head ({state.revisions}).", "There is nothing to do."


def _next_phase(pending: Sequence[Script]) -> str:
    """What to run before and after the new code is deployed."""
    names = {name for script in pending for name in required_backfills(script)}
    expands = bool(up_to_contract(pending))
    ways = ["Before the new code is deployed: safe-migrations deploy."] if expands else []
    ways.append(f"When {'it' if expands else 'the new code'} runs everywhere:")
    ways.extend(f"safe-migrations backfill {name};" for name in sorted(names))
    ways.append("safe-migrations deploy --contract.")
    if expands and not names:
        ways.append("All at once: alembic upgrade head")
    return " ".join(ways)


def _is_known(script: ScriptDirectory, revision: str) -> bool:
    try:
        return script.get_revision(revision) is not None
    except CommandError:
        return False


def _concurrent_index_names(path: Path) -> set[str]:
    """All strings of a revision file that uses the concurrent operations: among them its indexes' names."""
    nodes = list(ast.walk(ast.parse(path.read_bytes())))
    if not any(isinstance(node, ast.Attribute) and node.attr in CONCURRENT_OPERATIONS for node in nodes):
        return set()
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
