"""Which revisions are new, which have been changed although others have them, and what is wrong with the file HEAD."""

import ast
import difflib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from alembic.script import Script, ScriptDirectory

from safe_migrations.authoring import HEAD
from safe_migrations.repository import Published, Repository

_SHOWN = 12  # lines of a difference


@dataclass(frozen=True)
class Edited:
    """A revision file that is not as others have it.

    Attributes:
        path: the file, or where it was.
        line: the first one of its code that differs.
        where: who has the other one, such as "origin/main" or "tag v1.2".
        difference: a short unified diff of the code, without docstrings, comments and formatting.
    """

    path: Path
    line: int
    where: str
    difference: str


def new_revisions(script_directory: ScriptDirectory) -> list[Script]:
    """The revisions whose files are not on the main branch, in the order of the history.

    On the tip of the main branch itself: those that its first parent lacks. All, where there is no main branch, no
    commit, no repository or no git.

    Args:
        script_directory: this code's revisions.

    Raises:
        MigrationError: the clone is too shallow to tell, or git refuses to read it.
    """
    scripts = list(reversed(list(script_directory.walk_revisions())))
    repository = Repository.around(Path(script_directory.versions))
    base = repository.base() if repository else None
    if repository is None or base is None:
        return scripts
    ids = repository.contents_ids(Path(script.path) for script in scripts)
    return [script for script in scripts if not base.has(_name(script), ids[_name(script)])]


def edited_revisions(script_directory: ScriptDirectory) -> list[Edited]:
    """The revision files whose code is not as on the main branch or in a release (a tag), and those deleted.

    Docstring, comments, formatting and the file's name may change. An `acknowledged` that is declared later is an
    edit: others have agreed to nothing. Where a squash has replaced a history as a whole, nothing of it is compared.

    Args:
        script_directory: this code's revisions.

    Raises:
        MigrationError: the clone is shallow, or git refuses to read it.
    """
    repository = Repository.around(Path(script_directory.versions))
    if repository is None:
        return []
    scripts = {_name(script): script for script in script_directory.walk_revisions()}
    ids = repository.contents_ids(Path(script.path) for script in scripts.values())
    frozen = repository.frozen()
    differing = {id_ for each in frozen for name, id_ in each.files.items() if ids.get(name) != id_}
    codes = {id_: _Code(source) for id_, source in repository.objects(differing).items()}
    found: dict[Path, Edited] = {}
    for each in frozen:
        theirs = {name: codes[id_] for name, id_ in each.files.items() if ids.get(name) != id_}
        same = [scripts[name].revision for name in each.files.keys() - theirs.keys()]
        if theirs and not _is_squashed(theirs.values(), same, scripts.values()):
            for edited in _compare(each, theirs, scripts, Path(script_directory.versions)):
                found.setdefault(edited.path, edited)
    return list(found.values())


def head_file_problem(script_directory: ScriptDirectory) -> str | None:
    """What is wrong with the file HEAD, and what to do; None where it names the one head.

    Two branches that each add a revision both change its line: they meet in git, and not in a database.

    Args:
        script_directory: this code's revisions.
    """
    file, heads = Path(script_directory.versions, HEAD), sorted(script_directory.get_heads())
    name = os.path.relpath(file)
    if len(heads) > 1:
        return (
            f"There are several heads ({', '.join(heads)}), and {name} can name only one: two branches have each "
            "added a revision. Move the unapplied branch behind the other one: python -m safe_migrations rebase"
        )
    if not heads:
        return None
    text = file.read_text(errors="replace").strip() if file.exists() else None
    if text == heads[0]:
        return None
    if text is None:
        found = "is missing"
    elif "<<<<<<<" in text:
        found = "has conflict markers, but there is one head"
    else:
        found = f"names {text or 'nothing'}, but the newest revision is {heads[0]}"
    return f"{name} {found}: write the id of the newest revision into it: echo {heads[0]} > {name}"


class _Code:
    """The code of a file without its docstrings; what is no Python is one constant."""

    def __init__(self, source: bytes) -> None:
        try:
            self.module = ast.parse(source)
        except (SyntaxError, ValueError):
            self.module = ast.Module([ast.Expr(ast.Constant(source))], [])
        for node in ast.walk(self.module):
            if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                first = node.body[0] if node.body else None
                if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                    del node.body[0]
        self.revision = self._assigned("revision")
        self.down_revision = self._assigned("down_revision")

    @cached_property
    def lines(self) -> list[str]:
        """Formatted all the same way."""
        return ast.unparse(self.module).splitlines()

    def _assigned(self, name: str) -> object:
        """The constant that is assigned to a name."""
        for statement in self.module.body:
            if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Constant):
                target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
                if isinstance(target, ast.Name) and target.id == name:
                    return statement.value.value
        return ...


def _is_squashed(theirs: Collection[_Code], same: Collection[str], scripts: Collection[Script]) -> bool:
    """Whether others have a history that was replaced: its base is gone, and at most the id of our base is left.

    Args:
        theirs: their files that differ, or are gone.
        same: the revisions of those that don't.
        scripts: ours.
    """
    ours, bases = {script.revision for script in scripts}, {script.revision for script in scripts if script.is_base}
    base_is_gone = any(code.down_revision is None and code.revision not in ours for code in theirs)
    return base_is_gone and {*same, *(code.revision for code in theirs)} & ours <= bases


def _compare(
    published: Published, theirs: Mapping[str, _Code], scripts: Mapping[str, Script], folder: Path
) -> Iterator[Edited]:
    by_revision: dict[object, Script] = {script.revision: script for script in scripts.values()}
    for name, before in theirs.items():
        script = by_revision.get(before.revision) or scripts.get(name)
        if script is None:
            if name in published.required:
                yield Edited(folder / name, 1, published.where, f"{name} is deleted")
            continue
        after = _Code(Path(script.path).read_bytes())
        if before.lines != after.lines:
            difference = difflib.unified_diff(
                before.lines, after.lines, published.where, _name(script), n=1, lineterm=""
            )
            shown = [line for line in difference if not line.startswith("@@")]  # they count other lines than the file's
            text = "\n".join([*shown[:_SHOWN], "…"] if len(shown) > _SHOWN else shown)
            line = _first_difference(before.module.body, after.module.body) or 1
            yield Edited(Path(script.path), line, published.where, text)


def _first_difference(before: Sequence[ast.stmt], after: Sequence[ast.stmt]) -> int | None:
    """The line of the first statement that differs."""
    for old, new in zip(before, after, strict=False):
        if ast.unparse(old) != ast.unparse(new):
            return _first_difference(getattr(old, "body", []), getattr(new, "body", [])) or new.lineno
    added = after[len(before) :]
    return added[0].lineno if added else None


def _name(script: Script) -> str:
    return Path(script.path).name
