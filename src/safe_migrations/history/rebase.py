"""Moving the unapplied revisions of a branch behind another branch, after git has merged both."""

import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.script import Script, ScriptDirectory
from alembic.util import to_tuple

from safe_migrations.ddl.sql_file import files_beside
from safe_migrations.errors import HistoryError
from safe_migrations.files import replace_files
from safe_migrations.history.applied import read_applied
from safe_migrations.history.frozen import repositories
from safe_migrations.history.numbering import HEAD, head_files, head_text, highest_number
from safe_migrations.postgres.database import Database
from safe_migrations.printable import printable
from safe_migrations.revisions import NUMBER, named
from safe_migrations.upgrade.revision_names import full_name
from safe_migrations.upgrade.states import known_revisions

AGAIN = "safe-migrations rebase"
_INSTEAD = "Nothing was moved. Join the two heads instead:\nalembic merge -m 'merge heads' heads"


@dataclass(frozen=True)
class Move:
    """The revisions to move, and their new place.

    Attributes:
        scripts: the moved revisions, oldest first.
        onto: the other head.
        ancestor: the last common revision of both branches, before the first of `scripts`.
    """

    scripts: tuple[Script, ...]
    onto: Script
    ancestor: str

    @property
    def ids(self) -> set[str]:
        """The ids of the moved revisions."""
        return {script.revision for script in self.scripts}


def plan(script_directory: ScriptDirectory, revision: str | None) -> Move | None:
    """Find what to move; None where no branch has two heads.

    Args:
        revision: the head of the branch to move; by default, of the unpublished branch.

    Raises:
        HistoryError: the branch to move is unknown, or one of its revisions is published or can't be moved.
    """
    known = known_revisions(script_directory)
    heads = sorted(known.unmerged)
    if len(heads) < 2:
        if revision is not None and revision not in known.heads:
            raise HistoryError(f"{printable(revision)} is not a head; nothing was moved. No branch has two heads.")
        return None
    if len(heads) > 2:
        raise HistoryError(
            f"There are {len(heads)} heads ({named(heads, known.files)}), but rebase needs two. "
            "Merge heads until two remain."
        )
    published = _published(script_directory)
    head = revision or _unpublished(heads, published, known.files)
    if head not in heads:
        raise HistoryError(f"{printable(head)} is not a head. Name a head: {named(heads, known.files)}.")
    scripts = _branch(script_directory, head, published)
    (onto,) = script_directory.get_revisions([other for other in heads if other != head])
    return Move(tuple(scripts), onto, str(scripts[0].down_revision))


def refuse_applied(
    script_directory: ScriptDirectory, move: Move, databases: Iterable[Database], version_options: Mapping[str, Any]
) -> list[str]:
    """Stop if a database has already run one of the revisions.

    Returns:
        A sentence for each database that could not be read.

    Raises:
        HistoryError: a database is at one of the revisions, or at one that this code does not have.
    """
    known = {script.revision: script for script in script_directory.walk_revisions()}
    applied, warnings = read_applied(databases, version_options)
    for database, current in applied:
        name = f"The database {database.name!r} at {database.host}"
        if unknown := current - known.keys():
            raise HistoryError(
                f"{name} is at revision {printable(min(unknown))}, which this code does not have. The database may "
                "have run the revisions to move. Nothing was moved. Migrate the database with the code that has this "
                f"revision, or configure another database, then run:\n{AGAIN}"
            )
        if current & move.ids:
            raise HistoryError(
                f"{name} is at revision {full_name(known[min(current & move.ids)])}, one of the revisions to move. "
                f"{_INSTEAD}\nFor a development database, whose data may be lost:\n"
                f"alembic downgrade {shlex.quote(move.ancestor)} && {AGAIN}"
            )
    return warnings


def carry_out(script_directory: ScriptDirectory, move: Move) -> list[tuple[Path, Path]]:
    """Rewrite the first file's `down_revision`, renumber the files, and write HEAD: all or nothing.

    Returns:
        The path of each file, before and after.

    Raises:
        HistoryError: a file can't be rewritten; nothing was changed.
    """
    paths = _numbered(script_directory, move)
    sql = {
        file: after.with_name(f"{after.stem}{file.name.removeprefix(before.stem)}")
        for before, after in paths
        for file in files_beside(before)
    }
    files = {after: before.read_bytes() for before, after in (*paths, *sql.items())}
    head = paths[-1][1].with_name(HEAD)
    files[paths[0][1]] = _redirected(paths[0][0], move.ancestor, move.onto.revision)
    others = {*head_files(script_directory).get(head, ())} - {move.onto.revision}
    files[head] = head_text(others | {move.scripts[-1].revision}).encode()
    try:
        replace_files(files, removed=[*dict(paths), *sql])
    except OSError as error:
        raise HistoryError(f"Writing to {head.parent} failed ({error.strerror}). Nothing was moved.") from error
    return paths


def set_head(script_directory: ScriptDirectory) -> list[str]:
    """Write the heads into the files HEAD, and return them."""
    files = head_files(script_directory)
    for file, heads in files.items():
        file.write_text(head_text(heads))
    return [head for heads in files.values() for head in heads]


def _published(script_directory: ScriptDirectory) -> dict[str, str]:
    """Where a revision is published, such as "origin/main", by its id."""
    places: dict[str, str] = {}
    for repository in repositories(script_directory):
        by_name = repository.named(script_directory.walk_revisions())
        ids = repository.contents_ids(by_name)
        refs = [*repository.tags[::-1], *([repository.main] if repository.main else [])]  # the main branch wins
        places |= {
            script.revision: version.where
            for version in repository.at(refs)
            for name, script in by_name.items()
            if version.has(name, ids[name])
        }
    return places


def _unpublished(heads: Sequence[str], published: Collection[str], files: Mapping[str, Path]) -> str:
    """The unpublished head; the first one if both are published."""
    unpublished = [head for head in heads if head not in published]
    if len(unpublished) > 1:
        choices = (f"\nTo move {named([head], files)}:\n{AGAIN} {shlex.quote(head)}" for head in unpublished)
        raise HistoryError(
            "Neither head is on a main branch or in a release, so git does not know which branch to move. Name the "
            f"head of the branch.{''.join(choices)}"
        )
    return unpublished[0] if unpublished else heads[0]


def _branch(script_directory: ScriptDirectory, head: str, published: Mapping[str, str]) -> list[Script]:
    """The revisions that lead to this head only, oldest first."""
    (script,) = script_directory.get_revisions(head)
    branch: list[Script] = []
    needed = {
        dependency
        for other in script_directory.walk_revisions()
        for dependency in to_tuple(other.dependencies, default=())
    }
    while not script.is_branch_point:
        if where := published.get(script.revision):
            problem = f"is already on {where}, and may be applied"
        elif script.revision in needed:
            problem = "is in the depends_on of another revision"
        elif isinstance(script.down_revision, str):
            branch.insert(0, script)
            (script,) = script_directory.get_revisions(script.down_revision)
            continue
        else:
            problem = "is a merge revision"
        raise HistoryError(f"{Path(script.path).name} {problem}. {_INSTEAD}")
    return branch


def _numbered(script_directory: ScriptDirectory, move: Move) -> list[tuple[Path, Path]]:
    """The paths of the moved files, before and after: numbered after the files that are not moved."""
    last = highest_number(script for script in script_directory.walk_revisions() if script.revision not in move.ids)
    paths = [Path(script.path) for script in move.scripts]
    return [
        (path, path.with_name(f"{path.name[:9]}{number:04d}{path.name[13:]}") if NUMBER.match(path.name) else path)
        for number, path in enumerate(paths, start=last + 1)
    ]


def _redirected(file: Path, old: str, new: str) -> bytes:
    """A revision file with another `down_revision`, also in its docstring, otherwise unchanged."""
    value = re.escape(old.encode())
    assignment = rb"""(?m)^(down_revision\b[^=\n]*= *["'])""" + value + rb"""(?=["'])"""
    text, count = re.subn(assignment, rb"\g<1>" + new.encode(), file.read_bytes())
    if count != 1:
        raise HistoryError(
            f"{file.name} can't be rewritten. Write its down_revision as a line of its own, "
            f'down_revision = "{old}", then run:\n{AGAIN}'
        )
    return re.sub(rb"(?m)^(Revises: *)" + value + rb"(?=\s*$)", rb"\g<1>" + new.encode(), text, count=1)
