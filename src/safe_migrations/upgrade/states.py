"""What state a database is in, and what to do about it."""

import ast
import os
import shlex
import traceback
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import CycleDetected
from alembic.util import CommandError, to_tuple
from sqlalchemy import Connection, text

from safe_migrations import revisions
from safe_migrations.backfill.definition import COMMAND, required_backfills
from safe_migrations.ddl.indexes import CONCURRENT_OPERATIONS
from safe_migrations.ddl.partitions import partition_indexes
from safe_migrations.ddl.step_records import Direction
from safe_migrations.errors import RefusedError, RevisionError
from safe_migrations.postgres.catalog import InvalidIndex, invalid_indexes, own_relations
from safe_migrations.postgres.server_errors import reason
from safe_migrations.postgres.statements import parts, pattern
from safe_migrations.printable import printable
from safe_migrations.service import Service
from safe_migrations.upgrade.offline import offline_statements
from safe_migrations.upgrade.partly_applied import PartlyApplied, read_partly_applied
from safe_migrations.upgrade.phases import up_to_contract
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
        rivals: those of the heads that are of one branch.
        target: what upgrades to all heads, `head` or `heads`.
        unknown: those of `current` that this code does not have.
        baseline: the revision that stands for the unknown ones after a squash.
        pending: revisions of this code that the database does not have, in the order in which they would run.
        relations: tables and views, where there is no revision.
        invalid: indexes that a failed concurrent build has left, and that no pending revision builds.
        partly_applied: revisions of which some steps are completed, and not all.
        files: the files of this code's revisions.
        is_read_only: whether the server accepts no writes, such as a standby.
    """

    database: str
    current: tuple[str, ...]
    heads: tuple[str, ...]
    rivals: tuple[str, ...]
    target: str
    unknown: tuple[str, ...]
    baseline: revisions.Baseline | None
    pending: tuple[Script, ...]
    relations: tuple[str, ...]
    invalid: tuple[InvalidIndex, ...]
    partly_applied: tuple[PartlyApplied, ...]
    files: Mapping[str, Path]
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
            rivals=bool(self.rivals),
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
    """The names by which a revision may handle an index: its own, and that of the partitioned index that it is for."""
    partition = parts(index.table)[-1]
    whole = {name for name in handled if index.base_name in partition_indexes(partition, name)}
    return {index.base_name, *index.replaced, *whole}


def load_revisions(script_directory: ScriptDirectory) -> None:
    """Import the revision files.

    Raises:
        CommandError: they don't fit together.
        RevisionError: a file can't be imported, the revision that it follows is missing, two files have one id, or
            files follow each other in a circle.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* is not present")  # below, with what to do
            warnings.filterwarnings("error", ".* is present more than once")  # Alembic would take one of them
            script_directory.get_heads()
    except CycleDetected as error:
        named = _named(version_folders(script_directory), error.revisions)
        raise RevisionError(
            f"These revisions follow or need each other in a circle: {named}. Correct down_revision or depends_on in "
            "one of these files, then run the same command again."
        ) from error
    except UserWarning as error:
        named = _named(version_folders(script_directory), str(error).split())
        raise RevisionError(
            f"These files have the same revision id: {named}. Delete the copy, or give it an id of its own (revision) "
            "and the revision that it follows (down_revision), then run the same command again."
        ) from error
    except CommandError:
        raise
    except (Exception, SystemExit) as error:  # a file that ends the process would end it with its own exit status
        frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
        if isinstance(error, SyntaxError):
            frames.append((error.filename or "", error.lineno))
        folders = version_folders(script_directory)
        inside = [(file, line) for file, line in frames if any(Path(file).is_relative_to(folder) for folder in folders)]
        files = [f"{os.path.relpath(file)}:{line}" for file, line in inside]
        if isinstance(error, KeyError) and not files:
            raise _missing(folders, str(error.args[0])) from error
        place = files[-1] if files else "A revision file"
        raise RevisionError(
            f"{place} can't be read ({reason(error)}). Correct that file, then run the same command again."
        ) from error


def _named(folders: Sequence[Path], ids: Iterable[str]) -> str:
    """The files of revisions that Alembic can't load."""
    files = (file for folder in folders for file in sorted(folder.rglob("[!.]*.py")))
    named = (file for file in files if {*revisions.assigned(file.read_text(errors="replace"), "revision")} & {*ids})
    return ", ".join(map(os.path.relpath, named)) or ", ".join(sorted(ids))


def _missing(folders: Sequence[Path], revision: str) -> RevisionError:
    texts = {file: file.read_text(errors="replace") for folder in folders for file in sorted(folder.rglob("*.py"))}
    names = ("down_revision", "depends_on")
    following = [
        os.path.relpath(file)
        for file, text in texts.items()
        if any(revision in revisions.assigned(text, name) for name in names)
    ]
    where = [os.path.relpath(folder) for folder in folders]
    return RevisionError(
        f"{' and '.join(following) or 'A revision'} follows revision {revision}, which no file in {' '.join(where)} "
        "has: the file was deleted, or its id was changed. Databases may have run that revision, so restore its file, "
        "then run the same command again; if none has run it, let the file that follows it follow the revision before "
        f"(down_revision). To find it:\n{_search(revision, *where)}"
    )


def _search(revision: str, *folders: str) -> str:
    return shlex.join(["git", "log", "--all", "--oneline", "-S", printable(revision), "--", *folders])


def known_revisions(script_directory: ScriptDirectory) -> revisions.Revisions:
    """The revisions of this code, as Alembic has read them."""
    scripts = {script.revision: script for script in script_directory.walk_revisions()}
    places = {
        revision: revisions.Place(
            to_tuple(script.down_revision, default=()),
            to_tuple(script.dependencies, default=()),
            tuple(script.branch_labels),
            to_tuple(getattr(script.module, "replaces", None), default=()),
            to_tuple(getattr(script.module, "deploy_first", None), default=()),
            to_tuple(getattr(script.module, "phase", None), default=()),
        )
        for revision, script in scripts.items()
    }
    return revisions.Revisions.of({revision: Path(script.path) for revision, script in scripts.items()}, places)


def read_state(connection: Connection, script: ScriptDirectory, options: dict[str, Any]) -> State:
    """Read the state; nothing is changed.

    Args:
        connection: to the database.
        script: this code's revisions.
        options: what `context.configure` takes, for the version table's name.
    """
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
        rivals=tuple(sorted(known.rivals)),
        target=known.target,
        unknown=unknown,
        baseline=known.baseline_of(unknown),
        pending=tuple(reversed(pending)),
        relations=tuple(relations),
        invalid=tuple(invalid_indexes(connection)),
        partly_applied=read_partly_applied(connection, script, options),
        files=known.files,
        is_read_only=connection.scalar(text("SHOW transaction_read_only")) == "on",
    )
    return state.excusing(state.pending)


def refuse_unsafe(state: State, service: Service) -> None:
    """Refuse an upgrade or a downgrade that could do harm in this state.

    Args:
        state: the database's.
        service: whose database it is, to name its variables in an error.

    Raises:
        RefusedError: what the state means and what to do next; its exit status is the state's.
    """
    if state.name not in (FRESH, BEHIND, AT_HEAD):
        raise refusal(state, service)


def refuse_partly_applied(state: State, command: str) -> None:
    """Refuse to go back while an upgrade is interrupted between two steps, and to go forward while a downgrade is.

    Args:
        state: the database's.
        command: `upgrade`, `downgrade` or `stamp`.

    Raises:
        RefusedError: names the steps, and the command that completes the revision.
    """
    for revision in state.partly_applied:
        if revision.direction != command:
            status = EXIT_STATUS[BEHIND if revision.direction == "upgrade" else PARTLY_UNDONE]
            raise RefusedError(f"Nothing was changed. {revision.explained}", status)


def refusal(state: State, service: Service) -> RefusedError:
    """The error for a state that does not allow a command."""
    meaning, following = explain_state(state, service)
    return RefusedError(f"{meaning} Nothing was changed. {following}", EXIT_STATUS[state.name])


def explain_state(state: State, service: Service) -> tuple[str, str]:
    """What the state means, and what to do next, with each command on a line of its own."""
    url = service.settings
    name, database = state.name, repr(state.database)
    partly = list(map(str, state.interrupted("upgrade")))
    if name == revisions.SEVERAL_HEADS:
        return (
            f"This code has several heads ({revisions.named(state.rivals, state.files)}): two branches have each added "
            "a revision.",
            "If no database has your revision yet, move it behind the other one:\nsafe-migrations rebase\n"
            'If a database has it, merge the heads:\nalembic merge -m "merge heads" heads',
        )
    if name == revisions.UNKNOWN_REVISION:
        return (
            f"The database {database} is at revision {printable(', '.join(state.unknown))}, which this code does not "
            "have: the database is newer than this code, or belongs to another service.",
            f"Run this command from the release that has the revision, or correct {url}. To find that release:\n"
            f"{_search(state.unknown[0], 'alembic/versions')}",
        )
    if state.baseline is not None:
        return _explain_replaced(state, state.baseline)
    if name == UNTRACKED:
        shown = printable(", ".join(state.relations[:SHOWN])) + (", …" if len(state.relations) > SHOWN else "")
        return (
            f"The database {database} has tables but no revision ({len(state.relations)}: {shown}): it was built "
            "without migrations, or belongs to another service.",
            f"If it is the wrong database, correct {url}. If it is the right one, adopt it: the next command "
            "writes a baseline and models, unless the project has its own, proves that they make the same schema, and "
            "records the revision:\nsafe-migrations adopt",
        )
    if name == PARTLY_UNDONE:
        undone = state.interrupted("downgrade")[0]
        return f"A downgrade of the database {database} was interrupted between two steps.", undone.explained
    if name == INVALID_OBJECTS:
        indexes = printable(", ".join(f"{index.name} on {index.table}" for index in state.invalid))
        repair = "\n".join(
            f"{'REINDEX' if index.base_name == index.bare_name else 'DROP'} INDEX CONCURRENTLY {printable(index.name)};"
            for index in state.invalid
        )
        return (
            f"The database {database} has invalid indexes, left by a failed concurrent build ({indexes}): writes "
            "maintain them, and no query uses them.",
            f"Repair them in psql (safe-migrations db-shell), then run the same command again:\n{repair}",
        )
    if name == FRESH:
        return f"The database {database} is empty.", f"Build the schema:\nalembic upgrade {state.target}"
    if name == BEHIND:
        behind = f"The database {database} is at revision {state.revisions}; revisions to run: {len(state.pending)}."
        behind = " ".join([behind, *partly])
        if len(up_to_contract(state.pending)) == len(state.pending):
            return behind, f"Run them:\nalembic upgrade {state.target}"
        return behind, _next_phase(state)
    at_head = f"The database {database} is at head, revision {state.revisions}."
    return " ".join([at_head, *partly]), "There is nothing to do."


def _explain_replaced(state: State, baseline: revisions.Baseline) -> tuple[str, str]:
    old, new = printable(", ".join(state.unknown)), baseline.revision
    if baseline.deploy_first:
        release = f"Deploy {printable(baseline.deploy_first)} first, which has these revisions. With its code:"
    else:
        release = (
            "Deploy a release first that has these revisions. To find one:\n"
            f"{_search(state.unknown[0], 'alembic/versions')}\nWith its code:"
        )
    return (
        f"The database {state.database!r} is at revision {old}. This code no longer has the revisions from there to "
        f"{new}: the baseline {state.files[new].name} has replaced them, and runs on an empty database only.",
        f"{release}\nalembic upgrade {new}\nThen run the same command again.",
    )


def _next_phase(state: State) -> str:
    """What to run before and after the new code is deployed; a revision that has begun needs no backfill any more."""
    begun = {partly.revision for partly in state.partly_applied}
    waiting = [script for script in state.pending if script.revision not in begun]
    names = sorted({name for script in waiting for name in required_backfills(script)})
    expands = bool(up_to_contract(state.pending))
    lines = ["Before you deploy the new code:", "safe-migrations deploy"] if expands else []
    lines.append("When the new code runs everywhere:")
    lines.extend(f"{COMMAND} {shlex.quote(name)}" for name in names)
    lines.append("safe-migrations deploy --contract")
    if expands and not names:
        lines.extend(["All at once, if no old code runs:", f"alembic upgrade {state.target}"])
    return "\n".join(lines)


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
