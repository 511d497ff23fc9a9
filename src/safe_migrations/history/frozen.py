"""Which revisions are new, which published revisions were edited, and whether the file HEAD is correct."""

import ast
import difflib
import os
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alembic.script import Script, ScriptDirectory

from safe_migrations.ddl.sql_file import files_beside
from safe_migrations.history.git import Published, Repository
from safe_migrations.history.numbering import HEAD, HOOK, head_files, head_text
from safe_migrations.revisions import assigned, named
from safe_migrations.upgrade.phases import declared
from safe_migrations.upgrade.project import version_folders
from safe_migrations.upgrade.states import known_revisions


@dataclass(frozen=True)
class Edited:
    """A published revision file that was edited.

    Attributes:
        path: the file, or where it was.
        line: the first line of its code that differs.
        where: where the published file is, such as "origin/main" or "tag v1.2".
        difference: a unified diff of the code, without docstrings, comments and formatting.
    """

    path: Path
    line: int
    where: str
    difference: str


def new_revisions(script_directory: ScriptDirectory) -> list[Script]:
    """The revisions whose files are not on the main branch, in the order of the history.

    On the main branch itself: the revisions that it did not have before this commit. All revisions, without a main
    branch, a commit, a repository or git.

    Raises:
        HistoryError: the clone is shallow, or git refuses to read it.
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
    """The revision files whose code differs from the main branch or a release (a tag), and the deleted ones.

    Docstring, comments, formatting and the file's name may change. An `acknowledged` may be added. A
    squash, which replaces revisions with all that they follow, is no edit. Nor is what a project did before it had a
    file HEAD.

    Raises:
        HistoryError: the clone is shallow, or git refuses to read it.
    """
    scripts = list(script_directory.walk_revisions())
    has_head = any(file.exists() for file in head_files(script_directory))
    edits: dict[Path, Edited] = {}
    for repository in repositories(script_directory):
        named = repository.named(scripts)
        stems = {name.removesuffix(".py"): files_beside(Path(script.path)) for name, script in named.items()}
        sql = [str(file) for files in stems.values() for file in files]
        all_ids = repository.contents_ids([*named, *sql])
        ids = {name: all_ids[name] for name in named}
        tags = repository.tags_with(HEAD) if has_head else repository.tags
        published = [*repository.of_main(), *repository.at(tags)]
        frozen = [(version, version.revisions.items() - ids.items()) for version in published]
        sources = repository.contents({id_ for _, differing in frozen for _, id_ in differing})
        codes = {id_: _Code(source) for id_, source in sources.items()}
        ours = {script.revision: script for script in scripts}
        for version, differing in frozen:
            theirs = {name: (codes[id_], named.get(name)) for name, id_ in sorted(differing)}
            for edited in _compare(version, theirs, ours, repository.root):
                edits.setdefault(edited.path, edited)
            for edited in _compare_sql(version, stems, {all_ids[file] for file in sql}, repository.root):
                edits.setdefault(edited.path, edited)
    return list(edits.values())


def repositories(script_directory: ScriptDirectory) -> list[Repository]:
    """The git repositories of the revision files, usually one.

    Raises:
        HistoryError: git refuses to read one.
    """
    folders = [Path(script.path).parent for script in script_directory.walk_revisions()]
    return Repository.around(dict.fromkeys([*version_folders(script_directory), *folders]))


def head_file_problem(script_directory: ScriptDirectory) -> tuple[Path, str] | None:
    """What is wrong with the file HEAD, and on the next lines how to correct it; None if it is correct, or not used.

    Two branches that each add a revision both change its line: git reports the conflict.
    """
    files = head_files(script_directory)
    hooked = any(hook.get("type") == HOOK for hook in script_directory.hooks)
    kept = {file: heads for file, heads in files.items() if hooked or file.exists()}
    known = known_revisions(script_directory)
    if kept and known.unmerged:
        return next(iter(kept)), (
            f"one branch has several heads ({named(known.unmerged, known.files)})\n"
            "To move the unapplied revisions behind the other head:\nsafe-migrations rebase"
        )
    for file, heads in kept.items():
        if not file.exists() or file.read_text(errors="replace").strip() != head_text(heads).strip():
            name = os.path.relpath(file)
            return file, (
                f"{name} must contain only the ids of the newest revisions, one on each line\n"
                f"To correct this file:\nprintf '%s\\n' {shlex.join(heads)} > {shlex.quote(name)}"
            )
    return None


class _WithoutDocstrings(ast.NodeTransformer):
    def visit_Assign(self, node: ast.Assign) -> ast.Assign | None:
        """An acknowledgement does not change what the revision does."""
        return None if ast.unparse(node.targets[0]) == "acknowledged" else node

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) else node


class _Code:
    """The code of a file without docstrings; empty if the file is not Python."""

    def __init__(self, source: bytes) -> None:
        try:
            self.module = _WithoutDocstrings().visit(ast.parse(source))
        except (SyntaxError, ValueError):
            self.module = ast.parse("")
        self.text = ast.unparse(self.module)  # without formatting
        revision = re.search(r"^revision\b.*= '(.*)'$", self.text, re.MULTILINE)
        self.revision = revision[1] if revision else None
        self.follows = set(assigned(self.text, "down_revision"))
        self.is_base = bool(re.search(r"^down_revision\b.*= None$", self.text, re.MULTILINE))
        self.is_baseline = bool(assigned(self.text, "replaces"))


def _compare(
    published: Published, theirs: Mapping[str, tuple[_Code, Script | None]], ours: Mapping[str, Script], root: Path
) -> Iterator[Edited]:
    """The published files that were edited; a squash may replace revisions with all that they follow."""
    base_is_gone = any(code.is_base and code.revision not in ours for code, _ in theirs.values())
    if base_is_gone and len(theirs) == len(published.revisions):
        return
    baselines = [baseline for script in ours.values() if (baseline := _replaced_by(script))]
    for name, (before, same_name) in theirs.items():
        if any(_is_squashed(before, *baseline) for baseline in baselines):
            continue
        script = ours.get(before.revision or "") or same_name
        if script is None:
            if published.is_ours:
                yield Edited(root / name, 1, published.where, f"{Path(name).name} is deleted")
            continue
        after = _Code(Path(script.path).read_bytes())
        lines = difflib.unified_diff(
            before.text.splitlines(), after.text.splitlines(), published.where, Path(script.path).name, n=1, lineterm=""
        )
        # The line numbers after @@ differ from the file's.
        if difference := "\n".join(line for line in lines if not line.startswith("@@")):
            line = _first_difference(before.module.body, after.module.body) or 1
            yield Edited(Path(script.path), line, published.where, difference)


def _replaced_by(script: Script) -> tuple[str, set[str]] | None:
    """The id of a baseline, and the revisions that it replaces; None for another revision."""
    replaced = set(declared(script, "replaces"))
    return (script.revision, replaced) if replaced and script.down_revision is None else None


def _is_squashed(code: _Code, baseline: str, replaced: Collection[str]) -> bool:
    """Whether a baseline replaces a published revision, and all revisions before it."""
    is_last = code.revision == baseline and not code.is_baseline
    return (is_last or code.revision in replaced) and code.follows <= set(replaced)


def _compare_sql(published: Published, stems: Collection[str], ids: Collection[str], root: Path) -> Iterator[Edited]:
    """The published files of SQL that were edited, of the revisions that are still there.

    Args:
        stems: the paths of the revision files without their suffix, which the files of SQL share.
        ids: of the contents of the files of SQL, which finds a renamed one.
    """
    for name, id_ in published.files.items():
        if name.endswith(".sql") and id_ not in ids and any(name.startswith(f"{stem}.") for stem in stems):
            yield Edited(root / name, 1, published.where, f"{Path(name).name} has other SQL")


def _first_difference(before: Sequence[ast.stmt], after: Sequence[ast.stmt]) -> int | None:
    """The line of the first statement that differs."""
    for old, new in zip(before, after, strict=False):
        if ast.unparse(old) != ast.unparse(new):
            return _first_difference(getattr(old, "body", []), getattr(new, "body", [])) or new.lineno
    added = after[len(before) :]
    return added[0].lineno if added else None
