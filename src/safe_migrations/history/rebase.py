"""Moving the unapplied revisions of one branch behind those of the other, after git has brought both together."""

import importlib.util
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import to_tuple
from sqlalchemy.exc import DBAPIError

from safe_migrations.errors import MigrationError
from safe_migrations.history.frozen import repositories
from safe_migrations.history.numbering import HEAD, NUMBER, head_file
from safe_migrations.postgres.connection import Database, connected, explain, run_async

AGAIN = "safe-migrations rebase"
_INSTEAD = 'nothing was moved. Join the two branches instead: alembic merge -m "merge heads" heads'


@dataclass(frozen=True)
class Move:
    """Which revisions go where.

    Attributes:
        scripts: those that are moved, oldest first.
        onto: the other head.
        ancestor: the revision that both branches have; the first of `scripts` follows it as yet.
    """

    scripts: tuple[Script, ...]
    onto: Script
    ancestor: str

    @property
    def ids(self) -> set[str]:
        """The revisions that are moved."""
        return {script.revision for script in self.scripts}


def plan(script_directory: ScriptDirectory, revision: str | None) -> Move | None:
    """Find what to move; None where there is one head, or none.

    Args:
        script_directory: this code's revisions.
        revision: the head of the branch to move; by default of the one that nobody else has.

    Raises:
        MigrationError: it can't be told which, others have a revision of it, or one of them can't be moved.
    """
    heads = sorted(script_directory.get_heads())
    if len(heads) < 2:
        return None
    if len(heads) > 2:
        raise MigrationError(
            f"There are {len(heads)} heads ({', '.join(heads)}): join those that belong together, until two are left."
        )
    published = _published(script_directory)
    head = revision or _unpublished(heads, published)
    if head not in heads:
        raise MigrationError(f"{head} is not a head: name the newest revision of a branch, {' or '.join(heads)}.")
    scripts = _branch(script_directory, head, published)
    (onto,) = script_directory.get_revisions([other for other in heads if other != head])
    return Move(tuple(scripts), onto, str(scripts[0].down_revision))


def refuse_applied(
    script_directory: ScriptDirectory, move: Move, databases: Iterable[Database], version_options: Mapping[str, Any]
) -> list[str]:
    """Stop if a database has one of the revisions already.

    Args:
        script_directory: this code's revisions.
        move: what is about to be moved.
        databases: to ask.
        version_options: where Alembic records the revision, as `context.configure` takes it.

    Returns:
        A sentence for each database that could not be asked.

    Raises:
        MigrationError: a database is at one of the revisions, or at one that this code does not have.
    """
    silent, known = [], {script.revision for script in script_directory.walk_revisions()}
    for each in databases:
        try:
            current = set(run_async(_current(each, version_options)))
        except (DBAPIError, MigrationError) as error:
            why = explain(error, each) if isinstance(error, DBAPIError) else str(error)
            silent.append(f"A database could not be asked whether it has these revisions: {why}")
            continue
        database = f"The database {each.name!r} at {each.host}"
        if current - known:
            raise MigrationError(
                f"{database} is at {min(current - known)}, which this code does not have, so nobody can tell whether "
                "it has the revisions that would be moved: nothing was moved. Migrate it with the code that has that "
                f"revision, or configure another database, then {AGAIN}"
            )
        if current & move.ids:
            raise MigrationError(
                f"{database} is at {min(current & move.ids)}, one of the revisions that would be moved. If its data "
                f"may go, as in development: alembic downgrade {move.ancestor}, then {AGAIN}. If not, {_INSTEAD}"
            )
    return silent


def carry_out(script_directory: ScriptDirectory, move: Move) -> list[tuple[Path, Path]]:
    """Rewrite the first file's `down_revision`, number the files behind the others, and set HEAD: all or nothing.

    Args:
        script_directory: this code's revisions.
        move: what to move.

    Returns:
        The path of each file, before and after.

    Raises:
        MigrationError: a file can't be rewritten; nothing was changed.
    """
    paths = _numbered(script_directory, move)
    files = {after: before.read_bytes() for before, after in paths}
    head = paths[-1][1].with_name(HEAD)
    files[paths[0][1]] = _redirected(paths[0][0], move.ancestor, move.onto.revision)
    files[head] = f"{move.scripts[-1].revision}\n".encode()
    try:
        with TemporaryDirectory(dir=head.parent, prefix=".rebase-") as aside, ExitStack() as undo:
            # Written before anything is moved: where the disk is full, nothing has happened yet.
            for path, contents in files.items():
                Path(aside, path.name).write_bytes(contents)
            for before in (*dict(paths), head):
                if before.exists():
                    _rename(before, Path(aside, f"{before.name}.old"), undo)
            for path in files:
                _rename(Path(aside, path.name), path, undo)
                # Python takes what it has compiled for current if second and size of the file are the same.
                Path(importlib.util.cache_from_source(path)).unlink(missing_ok=True)
            undo.pop_all()
    except OSError as error:
        raise MigrationError(f"{head.parent} can't be changed ({error.strerror}): nothing was moved.") from error
    return paths


def set_head(script_directory: ScriptDirectory) -> str | None:
    """Write the one head into the file HEAD; returns it, or None where there is no revision.

    Args:
        script_directory: this code's revisions.
    """
    head = script_directory.get_current_head()
    if head is not None:
        head_file(script_directory).write_text(f"{head}\n")
    return head


def _published(script_directory: ScriptDirectory) -> dict[str, str]:
    """Where others have a revision, such as "origin/main", by its id, as far as git can tell."""
    found: dict[str, str] = {}
    for repository in repositories(script_directory):
        named = repository.named(script_directory.walk_revisions())
        ids = repository.contents_ids(named)
        refs = [*repository.tags[::-1], *([repository.main] if repository.main else [])]  # main has the last word
        found |= {
            script.revision: each.where
            for each in repository.at(refs)
            for name, script in named.items()
            if each.has(name, ids[name])
        }
    return found


def _unpublished(heads: Sequence[str], published: Collection[str]) -> str:
    """The head that nobody else has; where others have both, the first one.

    Raises:
        MigrationError: nobody else has either.
    """
    mine = [head for head in heads if head not in published]
    if len(mine) > 1:
        raise MigrationError(
            "Git can't tell which branch is to be moved, because neither is on a main branch or in a release. "
            f"Name the newest revision of it: {' or '.join(f'{AGAIN} {head}' for head in mine)}"
        )
    return mine[0] if mine else heads[0]


def _branch(script_directory: ScriptDirectory, head: str, published: Mapping[str, str]) -> list[Script]:
    """The revisions that lead to this head alone, oldest first.

    Raises:
        MigrationError: others have one of them, or they are not a simple chain that leaves the other branch.
    """
    (script,) = script_directory.get_revisions(head)
    found: list[Script] = []
    needed = {each for other in script_directory.walk_revisions() for each in to_tuple(other.dependencies, default=())}
    while not script.is_branch_point:
        if where := published.get(script.revision):
            problem = f"is on {where} already, and others may have applied it"
        elif script.revision in needed:
            problem = "is in the depends_on of another one"
        elif isinstance(script.down_revision, str):
            found.insert(0, script)
            (script,) = script_directory.get_revisions(script.down_revision)
            continue
        else:
            problem = "is a merge" if script.down_revision else "begins a history of its own"
        raise MigrationError(f"{Path(script.path).name} {problem}: {_INSTEAD}")
    return found


async def _current(database: Database, version_options: Mapping[str, Any]) -> tuple[str, ...]:
    async with connected(database, isolation_level="AUTOCOMMIT") as connection:
        return await connection.run_sync(
            lambda sync: MigrationContext.configure(sync, opts=dict(version_options)).get_current_heads()
        )


def _numbered(script_directory: ScriptDirectory, move: Move) -> list[tuple[Path, Path]]:
    """The paths of the moved files, before and after: numbered on behind those that stay."""
    stay = [Path(each.path).name for each in script_directory.walk_revisions() if each.revision not in move.ids]
    last = max((int(number[1]) for name in stay if (number := NUMBER.match(name))), default=0)
    paths = [Path(script.path) for script in move.scripts]
    return [
        (path, path.with_name(f"{path.name[:9]}{number:04d}{path.name[13:]}") if NUMBER.match(path.name) else path)
        for number, path in enumerate(paths, start=last + 1)
    ]


def _redirected(file: Path, old: str, new: str) -> bytes:
    """A revision file with another `down_revision`, also in its docstring, and everything else byte for byte.

    Raises:
        MigrationError: it is not written as our script.py.mako has it.
    """
    value = re.escape(old.encode())
    assignment = rb"""(?m)^(down_revision\b[^=\n]*= *["'])""" + value + rb"""(?=["'])"""
    text, count = re.subn(assignment, rb"\g<1>" + new.encode(), file.read_bytes())
    if count != 1:
        raise MigrationError(
            f'{file.name} can\'t be rewritten: give its down_revision a line of its own, down_revision = "{old}", '
            f"then {AGAIN}"
        )
    return re.sub(rb"(?m)^(Revises: *)" + value + rb"(?=\s*$)", rb"\g<1>" + new.encode(), text, count=1)


def _rename(source: Path, target: Path, undo: ExitStack) -> None:
    os.rename(source, target)
    undo.callback(os.rename, target, source)
