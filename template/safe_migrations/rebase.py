"""Moving the unapplied revisions of one branch behind those of the other, after git has brought both together."""

import ast
import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import to_tuple
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from safe_migrations.authoring import HEAD, NUMBER
from safe_migrations.connection import connected, explain, run_async
from safe_migrations.errors import MigrationError
from safe_migrations.repository import Repository

AGAIN = "python -m safe_migrations rebase"
MERGE = 'alembic merge -m "merge heads" heads'


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
        revision: the head of the branch to move; by default of the one that is not on the main branch.

    Raises:
        MigrationError: it can't be told which, others have a revision of it, or one of them can't be moved.
    """
    heads = sorted(script_directory.get_heads())
    if len(heads) < 2:
        return None
    if len(heads) > 2:
        raise MigrationError(
            f"There are {len(heads)} heads ({', '.join(heads)}), and a branch is moved onto one other: join those that "
            "belong together with alembic merge first."
        )
    published = _Published(script_directory)
    head = _chosen(script_directory, heads, revision) if revision else published.unpublished(heads)
    (onto,) = script_directory.get_revisions([other for other in heads if other != head])
    scripts = _only_in(script_directory, head, onto.revision)
    published.refuse(scripts)
    return Move(tuple(scripts), onto, _ancestor(script_directory, scripts))


def refuse_applied(script_directory: ScriptDirectory, move: Move, urls: Iterable[URL], env_prefix: str) -> list[str]:
    """Stop if a database has one of the revisions already.

    Args:
        script_directory: this code's revisions.
        move: what is about to be moved.
        urls: the databases to ask.
        env_prefix: prefix of the service's environment variables, to name them in an error.

    Returns:
        A sentence for each database that could not be asked.

    Raises:
        MigrationError: a database is at one of the revisions, or at one that this code does not have.
    """
    silent, known = [], {script.revision for script in script_directory.walk_revisions()}
    for url in urls:
        try:
            current = run_async(_current(url, env_prefix))
        except (DBAPIError, MigrationError) as error:
            why = explain(error, url, env_prefix) if isinstance(error, DBAPIError) else str(error)
            silent.append(f"A database could not be asked whether it has these revisions: {why}")
        else:
            _refuse_current(move, known, current, f"{url.database!r} at {url.host or 'localhost'}:{url.port or 5432}")
    return silent


def carry_out(script_directory: ScriptDirectory, move: Move) -> list[tuple[str, str]]:
    """Rewrite the first file's `down_revision`, number the files behind the others, and set HEAD: all or nothing.

    Args:
        script_directory: this code's revisions.
        move: what to move.

    Returns:
        The names of each file, before and after.

    Raises:
        MigrationError: a file can't be rewritten, or a name is taken; nothing was changed.
    """
    folder, first = Path(script_directory.versions), Path(move.scripts[0].path)
    names = _numbered(script_directory, move)
    rewritten = _redirected(first, move.ancestor, move.onto.revision)
    taken = [new for old, new in names if new not in dict(names) and folder.joinpath(new).exists()]
    if taken:
        raise MigrationError(f"{taken[0]} is in the way of a file that is renumbered: move it away, then {AGAIN}.")
    try:
        _replace_files(script_directory, move, names, rewritten)
    except OSError as error:
        raise MigrationError(f"{folder} can't be changed ({error.strerror}): nothing was moved.") from error
    return names


def set_head(script_directory: ScriptDirectory) -> str | None:
    """Write the one head into the file HEAD; returns it, or None where there is no revision.

    Args:
        script_directory: this code's revisions.
    """
    head = script_directory.get_current_head()
    if head is not None:
        Path(script_directory.versions, HEAD).write_text(f"{head}\n")
    return head


class _Published:
    """What the main branch and the releases have, as far as git can tell."""

    def __init__(self, script_directory: ScriptDirectory) -> None:
        repository = Repository.around(Path(script_directory.versions))
        self.scripts = {script.revision: Path(script.path) for script in script_directory.walk_revisions()}
        self.ids = repository.contents_ids(self.scripts.values()) if repository else {}
        self.releases = repository.releases() if repository else []
        self.main = self.releases[0] if repository and repository.main else None

    def unpublished(self, heads: Sequence[str]) -> str:
        """The one head that is not on the main branch.

        Raises:
            MigrationError: there is not one.
        """
        others = [head for head in heads if self.main and not self.main.has(self._file(head), self._id(head))]
        if len(others) == 1:
            return others[0]
        why = (
            "there is no main branch"
            if self.main is None
            else f"{self.main.where} has {'neither' if others else 'both'}"
        )
        choices = " or ".join(f"{AGAIN} {head} ({self._file(head)})" for head in heads)
        raise MigrationError(f"Git can't tell which branch is to be moved ({why}). Name the newest of it: {choices}.")

    def refuse(self, scripts: Sequence[Script]) -> None:
        """Stop if others have one of these.

        Raises:
            MigrationError: with where it is.
        """
        for script in scripts:
            for each in self.releases:
                if each.has(self._file(script.revision), self._id(script.revision)):
                    raise MigrationError(
                        f"{self._file(script.revision)} is on {each.where} already, and others may have applied it: "
                        f"nothing was moved. Join the two branches instead: {MERGE}"
                    )

    def _file(self, revision: str) -> str:
        return self.scripts[revision].name

    def _id(self, revision: str) -> str:
        return self.ids.get(self._file(revision), "")


def _chosen(script_directory: ScriptDirectory, heads: Sequence[str], revision: str) -> str:
    found = script_directory.get_revision(revision)
    if found is None or found.revision not in heads:
        raise MigrationError(f"{revision} is not a head: name the newest revision of a branch, {' or '.join(heads)}.")
    return found.revision


def _only_in(script_directory: ScriptDirectory, head: str, other: str) -> list[Script]:
    """The revisions that lead to one head and not to the other, oldest first."""
    kept = _line_of(script_directory, other)
    return [script for revision, script in _line_of(script_directory, head).items() if revision not in kept][::-1]


def _line_of(script_directory: ScriptDirectory, head: str) -> dict[str, Script]:
    """A revision and those before it, newest first, without those that it merely depends on."""
    found: dict[str, Script] = {}
    waiting = [head]
    while waiting:
        for script in script_directory.get_revisions(waiting.pop()):
            if script.revision not in found:
                found[script.revision] = script
                waiting += to_tuple(script.down_revision, default=())
    return found


def _ancestor(script_directory: ScriptDirectory, scripts: Sequence[Script]) -> str:
    """The revision that the first of them follows, if they are a simple chain.

    Raises:
        MigrationError: they are not.
    """
    moved = {script.revision for script in scripts}
    for script in scripts:
        if script.is_merge_point:
            problem = "is a merge"
        elif script.branch_labels:
            problem = "has a branch label"
        elif script.dependencies:
            problem = "has depends_on"
        elif script.down_revision is None:
            problem = "begins a history of its own"
        else:
            continue
        raise MigrationError(
            f"{Path(script.path).name} {problem}, and what then comes first can't be told: nothing was moved. "
            f"Join the two branches instead: {MERGE}"
        )
    for script in script_directory.walk_revisions():
        if moved.intersection(script.dependencies or ()):
            raise MigrationError(
                f"{Path(script.path).name} depends on a revision that would be moved: nothing was moved. "
                f"Join the two branches instead: {MERGE}"
            )
    return str(scripts[0].down_revision)


async def _current(url: URL, env_prefix: str) -> tuple[str, ...]:
    async with connected(url, env_prefix, isolation_level="AUTOCOMMIT") as connection:
        return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_heads())


def _refuse_current(move: Move, known: set[str], current: Sequence[str], database: str) -> None:
    if unknown := sorted(set(current) - known):
        raise MigrationError(
            f"The database {database} is at {unknown[0]}, which this code does not have, so nobody can tell whether it "
            "has the revisions that would be moved: nothing was moved. Migrate it with the code that has that "
            f"revision, or configure another database, then {AGAIN}"
        )
    if applied := sorted(move.ids.intersection(current)):
        raise MigrationError(
            f"The database {database} is at {applied[0]}, one of the revisions that would be moved: nothing was moved. "
            f"If its data may go, as in development: alembic downgrade {move.ancestor}, then {AGAIN}. "
            f"If not, join the two branches instead: {MERGE}"
        )


def _numbered(script_directory: ScriptDirectory, move: Move) -> list[tuple[str, str]]:
    """The names of the moved files, before and after: numbered on behind those that stay."""
    stay = [Path(each.path).name for each in script_directory.walk_revisions() if each.revision not in move.ids]
    last = max((int(number[1]) for name in stay if (number := NUMBER.match(name))), default=0)
    names = [Path(script.path).name for script in move.scripts]
    return [
        (name, f"{name[:9]}{number:04d}{name[13:]}" if NUMBER.match(name) else name)
        for number, name in enumerate(names, start=last + 1)
    ]


def _redirected(file: Path, old: str, new: str) -> bytes:
    """A revision file with another `down_revision`, also in its docstring, and everything else byte for byte.

    Raises:
        MigrationError: it is not written as our script.py.mako has it.
    """
    source = file.read_bytes()
    module, lines = ast.parse(source), source.splitlines(keepends=True)
    value = _down_revision(module)
    if isinstance(value, ast.Constant):
        line, start, end = lines[value.lineno - 1], value.col_offset, value.end_col_offset  # in bytes
        lines[value.lineno - 1] = line[:start] + line[start:end].replace(old.encode(), new.encode()) + line[end:]
    docstring = module.body[0]
    if isinstance(docstring, ast.Expr):
        revises = re.compile(rb"^(Revises: *)" + re.escape(old.encode()) + rb"(?=\s*$)")
        for number in range(docstring.lineno - 1, docstring.end_lineno or 0):
            lines[number] = revises.sub(rb"\g<1>" + new.encode(), lines[number])
    rewritten = b"".join(lines)
    value = _down_revision(ast.parse(rewritten))
    if not isinstance(value, ast.Constant) or value.value != new:
        raise MigrationError(
            f'{file.name} can\'t be rewritten: give its down_revision a line of its own, down_revision = "{old}", '
            f"then {AGAIN}"
        )
    return rewritten


def _down_revision(module: ast.Module) -> ast.expr | None:
    for statement in module.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            if isinstance(target, ast.Name) and target.id == "down_revision":
                return statement.value
    return None


def _replace_files(
    script_directory: ScriptDirectory, move: Move, names: Sequence[tuple[str, str]], rewritten: bytes
) -> None:
    """Put every file in its new place, or all of them back."""
    folder, first, head = Path(script_directory.versions), Path(move.scripts[0].path), move.scripts[-1].revision
    with tempfile.TemporaryDirectory(dir=folder, prefix=".rebase-") as aside, ExitStack() as undo:
        new = Path(aside, "new")
        new.mkdir()
        # Written before anything is moved: where the disk is full, nothing has happened yet.
        new.joinpath(HEAD).write_text(f"{head}\n")
        new.joinpath(first.name).write_bytes(rewritten)
        shutil.copymode(first, new / first.name)
        for name in [*dict(names), *([HEAD] if folder.joinpath(HEAD).exists() else [])]:
            _rename(folder / name, Path(aside, name), undo)
        for before, after in [*names, (HEAD, HEAD)]:
            _rename(new / before if new.joinpath(before).exists() else Path(aside, before), folder / after, undo)
            # Python takes what it has compiled for current if second and size of the file are the same.
            Path(importlib.util.cache_from_source(folder / after)).unlink(missing_ok=True)
        if ScriptDirectory(script_directory.dir).get_heads() != [head]:
            raise MigrationError("The moved revisions would not make one head: nothing was moved.")
        undo.pop_all()


def _rename(source: Path, target: Path, undo: ExitStack) -> None:
    os.rename(source, target)
    undo.callback(os.rename, target, source)
