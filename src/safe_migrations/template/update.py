"""The newest release of the template, brought into this service without losing an edit.

Copier merges, but alone it overwrites files that git ignores, puts back what neighbours in a monorepo have not yet
committed, and deletes what the template has dropped, even if it was edited. So it runs in a scratch repository
with the committed files of this service only, and what has changed there is brought over at the end.
"""

import filecmp
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safe_migrations.errors import MigrationError
from safe_migrations.history.git import git
from safe_migrations.template.releases import ANSWERS, News, copier, read_answers
from safe_migrations.template.workspace import bring_over, paths, refuse_to_overwrite, scratch_repository

_INSTALL = ["pdm", "update", "alembic-safe-migrations"]  # pdm install keeps the release that pdm.lock names
_CHECKS = ("lint", "typecheck", "test")
_AGAIN = "pdm run template-update"
# Of this folder alone: neighbours have work of their own.
_TAKE_BACK = "git reset --quiet -- . && git checkout -- . && git clean -fd ."


@dataclass(frozen=True)
class Update:
    """What an update has done.

    Attributes:
        files: those that it has changed, from the service's folder.
        new_answers: the questions that are new, and the answers that they got by default.
        to_decide: what a person has to decide, as sentences.
    """

    files: tuple[str, ...]
    new_answers: tuple[str, ...]
    to_decide: tuple[str, ...]

    def as_text(self) -> str:
        """For a person."""
        files = f"Files that have changed:{_as_list(self.files)}"
        return "\n".join([files, *(f"A new question has got its default answer: {each}" for each in self.new_answers)])

    def refuse_undecided(self) -> None:
        """Let nobody overlook what is left to decide.

        Raises:
            MigrationError: there is something.
        """
        if self.to_decide:
            checks = ", ".join(f"pdm run {script}" for script in _CHECKS)
            raise MigrationError(
                f"The update is in place, but leaves you to decide:{_as_list(self.to_decide)}\n"
                f"Then {' '.join(_INSTALL)}, {checks}, and commit. Or take the update back: {_TAKE_BACK}"
            )


def update(folder: Path, news: News, *, data: Sequence[str] = (), trust: bool = False) -> Update:
    """Bring the template's newest release into a service.

    Args:
        folder: of the service; everything in it is committed.
        news: what is new.
        data: answers to give anew, as NAME=VALUE.
        trust: whether code of the template may run here, as some releases need.

    Raises:
        MigrationError: it can't be done; nothing was changed.
    """
    _refuse_untrusted(news, trust)
    before = read_answers(folder)
    with scratch_repository(folder) as scratch:
        options = [*(f"--data={each}" for each in data), *["--trust"] * trust]
        copier(folder, "update", "--defaults", "--skip-answered", "--quiet", *options, os.fspath(scratch))
        after = read_answers(scratch)
        _refuse_reset(before, after, data)
        kept = _keep_edited(scratch, folder, before)
        changed = paths(scratch, "diff", "--name-only", "--no-renames", "--relative", "HEAD", "--", ".")
        changed += paths(scratch, "ls-files", "--others")
        refuse_to_overwrite(folder, changed)
        kept += _keep_what_is_no_text(scratch, folder, changed)
        refuse_unfinished(folder)  # now at the latest: somebody may have gone on meanwhile
        bring_over(scratch, folder, [*sorted(set(changed) - {ANSWERS}), ANSWERS])
    ignored = paths(folder, "ls-files", "--others", "--ignored", "--exclude-standard", "--", *changed)
    return Update(
        files=tuple(sorted(set(changed))),
        new_answers=tuple(f"{name}: {after[name]}" for name in after if name not in before),
        to_decide=(*unsolved(folder), *kept, *(f"{path}: git ignores it here; git add --force it" for path in ignored)),
    )


def unsolved(folder: Path) -> list[str]:
    """What an update has left for a person to solve, as sentences.

    Args:
        folder: of the service.
    """
    unmerged = paths(folder, "diff", "--name-only", "--relative", "--diff-filter=U", "--", ".", may_fail=True)
    both = ("--files-with-matches", "--all-match", "-e", "^<<<<<<< ", "-e", "^>>>>>>> ")
    text_files = ("--no-index", "--exclude-standard", "-I")  # outside a repository, too
    marked = paths(folder, "grep", *text_files, *both, "--", ".", may_fail=True)
    others = ("--cached", "--others", "--exclude-standard")
    rejections = paths(folder, "ls-files", *others, "--", "*.rej", may_fail=True)
    rejected = [path for path in rejections if folder.joinpath(path.removesuffix(".rej")).exists()]
    return [
        *(f"{path}: both have changed it; solve the conflict, then git add" for path in sorted({*unmerged, *marked})),
        *(f"{path}: what could not be merged; put it in by hand, then remove this file" for path in rejected),
    ]


def check(folder: Path, *, install: bool) -> None:
    """Run the service's own checks, and show what they print.

    Args:
        folder: of the service.
        install: whether dependencies may have changed.

    Raises:
        MigrationError: one has failed.
    """
    commands = [_INSTALL] * install + [["pdm", "run", script] for script in _CHECKS]
    if not shutil.which("pdm"):
        raise MigrationError(
            "The update is in place, but PDM is not here to check it: python3 -m pip install 'pdm[locked]', then "
            + ", ".join(" ".join(command) for command in commands)
        )
    for command in commands:
        print(f"$ {' '.join(command)}", flush=True)
        if subprocess.run(command, cwd=folder).returncode != 0:
            raise MigrationError(
                f"The update is in place, but `{' '.join(command)}` failed. Put that right, and commit; or take the "
                f"update back: {_TAKE_BACK}"
            )


def refuse_unfinished(folder: Path) -> None:
    """An update begins where everything is committed, and nothing is left of the last one.

    Args:
        folder: of the service.

    Raises:
        MigrationError: something is; or there is no repository.
    """
    if not git(folder, "rev-parse", "--git-dir", may_fail=True):
        raise MigrationError(
            "This service is not in a git repository, without which edits and updates can't be told apart; nothing was "
            f"changed. git init && git add --all && git commit; then {_AGAIN}"
        )
    if left := unsolved(folder):
        raise MigrationError(f"Something is left to decide first; nothing was changed:{_as_list(left)}")
    changed = paths(folder, "status", "--porcelain", "--untracked-files=normal", "--no-renames", "--", ".")
    if changed:
        raise MigrationError(
            f"Not everything is committed here ({_listed(line[3:] for line in changed)}), so your edits and the update "
            f"could not be told apart; nothing was changed. Commit, or git stash --include-untracked; then {_AGAIN}"
        )


def _refuse_untrusted(news: News, trust: bool) -> None:
    reasons = [f"{release.version}: {release.trust}" for release in news.releases if release.trust]
    if reasons and not trust:
        raise MigrationError(
            f"This update runs code of the template's in this service ({'; '.join(reasons)}); nothing was changed. If "
            f"you trust the template: {_AGAIN} --trust"
        )


def _refuse_reset(before: dict[str, Any], after: dict[str, Any], data: Sequence[str]) -> None:
    """Copier takes the default, and says nothing, where an answer is not valid any more."""
    chosen = {each.partition("=")[0] for each in data}
    if unknown := sorted(chosen - after.keys()):
        raise MigrationError(f"The template does not ask for {', '.join(unknown)}; nothing was changed. See {ANSWERS}.")
    reset = [
        name
        for name in before
        if name in after and before[name] != after[name] and name not in (*chosen, "_commit", "_src_path")
    ]
    if reset:
        were = "; ".join(f"{name} was {before[name]}, and would be {after[name]}" for name in reset)
        give = " ".join(f"--data {shlex.quote(f'{name}={after[name]}')}" for name in reset)
        raise MigrationError(
            f"The new release does not take an answer of this service any more ({were}); nothing was changed. Choose, "
            f"such as: {_AGAIN} {give}"
        )


def _keep_edited(scratch: Path, folder: Path, answers: dict[str, Any]) -> list[str]:
    """Take back what the template has dropped, if the service had edited it; tell of it."""
    dropped = list(dict.fromkeys(paths(scratch, "ls-files", "--deleted")))  # once for each stage
    if not dropped:
        return []
    git(scratch, "checkout", "HEAD", "--", *dropped)
    source = (f"--vcs-ref={answers['_commit']}", f"--data-file={folder / ANSWERS}", "--", answers["_src_path"])
    with TemporaryDirectory(prefix="template-update-") as original:
        copier(folder, "copy", "--defaults", "--skip-tasks", "--quiet", *source, original)
        unedited, _, _ = filecmp.cmpfiles(original, scratch, dropped, shallow=False)
    for path in unedited:
        scratch.joinpath(path).unlink()
    edited = [path for path in dropped if path not in unedited]
    return [f"{path}: the template has dropped it, and you had changed it; git rm it, or keep it" for path in edited]


def _keep_what_is_no_text(scratch: Path, folder: Path, changed: Iterable[str]) -> list[str]:
    """Take back what Copier overwrites instead of merging; the template itself has UTF-8 only. Tell of it."""
    kept = [path for path in dict.fromkeys(changed) if not _is_text(folder / path)]
    if kept:
        git(scratch, "checkout", "HEAD", "--", *kept)
    return [f"{path}: is no text in UTF-8, which can't be merged, and stays as it was" for path in kept]


def _is_text(file: Path) -> bool:
    """Whether it is one, or is not there."""
    try:
        return not file.is_file() or "\0" not in file.read_text("utf-8")
    except UnicodeDecodeError:
        return False


def _as_list(sentences: Iterable[str]) -> str:
    return "".join(f"\n  {each}" for each in sentences)


def _listed(paths: Iterable[str]) -> str:
    first, *others = paths
    return f"{first} and {len(others)} more" if others else first
