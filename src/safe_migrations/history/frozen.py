"""Which revisions are new, which have been changed although others have them, and what is wrong with the file HEAD."""

import ast
import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alembic.script import Script, ScriptDirectory

from safe_migrations.history.git import Published, Repository
from safe_migrations.history.numbering import HOOK, head_file
from safe_migrations.upgrade.project import version_folders


@dataclass(frozen=True)
class Edited:
    """A revision file that is not as others have it.

    Attributes:
        path: the file, or where it was.
        line: the first one of its code that differs.
        where: who has the other one, such as "origin/main" or "tag v1.2".
        difference: a unified diff of the code, without docstrings, comments and formatting.
    """

    path: Path
    line: int
    where: str
    difference: str


def new_revisions(script_directory: ScriptDirectory) -> list[Script]:
    """The revisions whose files are not on the main branch, in the order of the history.

    On the main branch itself: those that it has not had before this commit. All, where there is no main branch, no
    commit, no repository or no git.

    Args:
        script_directory: this code's revisions.

    Raises:
        MigrationError: the clone is shallow, or git refuses to read it.
    """
    scripts = list(reversed(list(script_directory.walk_revisions())))
    known: set[str] = set()
    for repository in repositories(script_directory):
        if before := repository.of_main():
            named = repository.named(scripts)
            ids = repository.contents_ids(named)
            known.update(script.revision for name, script in named.items() if before[-1].has(name, ids[name]))
    return [script for script in scripts if script.revision not in known]


def edited_revisions(script_directory: ScriptDirectory) -> list[Edited]:
    """The revision files whose code is not as on the main branch or in a release (a tag), and those deleted.

    Docstring, comments, formatting and the file's name may change. An `acknowledged` that is declared later is an
    edit: others have agreed to nothing. Where a squash has replaced a history as a whole, nothing of it is compared.

    Args:
        script_directory: this code's revisions.

    Raises:
        MigrationError: the clone is shallow, or git refuses to read it.
    """
    scripts = list(script_directory.walk_revisions())
    found: dict[Path, Edited] = {}
    for repository in repositories(script_directory):
        named = repository.named(scripts)
        ids = repository.contents_ids(named)
        published = [*repository.of_main(), *repository.at(repository.tags)]
        frozen = [(each, each.files.items() - ids.items()) for each in published]
        sources = repository.contents({id_ for _, differing in frozen for _, id_ in differing})
        codes = {id_: _Code(source) for id_, source in sources.items()}
        ours = {script.revision: script for script in scripts}
        for each, differing in frozen:
            theirs = {name: (codes[id_], named.get(name)) for name, id_ in sorted(differing)}
            for edited in _compare(each, theirs, ours, repository.root):
                found.setdefault(edited.path, edited)
    return list(found.values())


def repositories(script_directory: ScriptDirectory) -> list[Repository]:
    """The git repositories of the revision files; one, as a rule.

    Args:
        script_directory: this code's revisions.

    Raises:
        MigrationError: git refuses to read one.
    """
    folders = [Path(script.path).parent for script in script_directory.walk_revisions()]
    return Repository.around(dict.fromkeys([*version_folders(script_directory), *folders]))


def head_file_problem(script_directory: ScriptDirectory) -> tuple[Path, str] | None:
    """What is wrong with the file HEAD, and what to do; None where it names the one head, or the project has none.

    Two branches that each add a revision both change its line: they meet in git, and not in a database.

    Args:
        script_directory: this code's revisions.
    """
    file, heads = head_file(script_directory), sorted(script_directory.get_heads())
    kept = file.exists() or any(hook.get("type") == HOOK for hook in script_directory.hooks)
    problem = _head_file_problem(file, heads) if kept else None
    return (file, problem) if problem else None


def _head_file_problem(file: Path, heads: Sequence[str]) -> str | None:
    name = os.path.relpath(file)
    if len(heads) > 1:
        return (
            f"There are several heads ({', '.join(heads)}), and {name} can name only one: two branches have each "
            "added a revision. Move the unapplied branch behind the other one: safe-migrations rebase"
        )
    if not heads or (file.exists() and file.read_text(errors="replace").strip() == heads[0]):
        return None
    return f"{name} does not name the newest revision alone: write its id there: echo {heads[0]} > {name}"


class _WithoutDocstrings(ast.NodeTransformer):
    def visit_Assign(self, node: ast.Assign) -> ast.Assign | None:
        """Agreeing to a revision's danger does not change what it does, and may come after the merge."""
        return None if ast.unparse(node.targets[0]) == "acknowledged" else node

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) else node


class _Code:
    """The code of a file without its docstrings; nothing where it is no Python."""

    def __init__(self, source: bytes) -> None:
        try:
            self.module = _WithoutDocstrings().visit(ast.parse(source))
        except (SyntaxError, ValueError):
            self.module = ast.parse("")
        self.text = ast.unparse(self.module)  # formatted all the same way
        revision = re.search(r"^revision\b.*= '(.*)'$", self.text, re.MULTILINE)
        self.revision = revision[1] if revision else None
        self.is_base = bool(re.search(r"^down_revision\b.*= None$", self.text, re.MULTILINE))


def _compare(
    published: Published, theirs: Mapping[str, tuple[_Code, Script | None]], ours: Mapping[str, Script], root: Path
) -> Iterator[Edited]:
    """Their files that differ, if it is not that a squash has replaced all of them, and their base is gone."""
    base_is_gone = any(code.is_base and code.revision not in ours for code, _ in theirs.values())
    if base_is_gone and len(theirs) == len(published.files):
        return
    for name, (before, same_name) in theirs.items():
        script = ours.get(before.revision or "") or same_name
        if script is None:
            if published.is_ours:
                yield Edited(root / name, 1, published.where, f"{Path(name).name} is deleted")
            continue
        after = _Code(Path(script.path).read_bytes())
        lines = difflib.unified_diff(
            before.text.splitlines(), after.text.splitlines(), published.where, Path(script.path).name, n=1, lineterm=""
        )
        # The lines with @@ count other lines than the file's.
        if difference := "\n".join(line for line in lines if not line.startswith("@@")):
            line = _first_difference(before.module.body, after.module.body) or 1
            yield Edited(Path(script.path), line, published.where, difference)


def _first_difference(before: Sequence[ast.stmt], after: Sequence[ast.stmt]) -> int | None:
    """The line of the first statement that differs."""
    for old, new in zip(before, after, strict=False):
        if ast.unparse(old) != ast.unparse(new):
            return _first_difference(getattr(old, "body", []), getattr(new, "body", [])) or new.lineno
    added = after[len(before) :]
    return added[0].lineno if added else None
