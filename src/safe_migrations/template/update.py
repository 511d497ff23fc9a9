"""Updating a service to the newest release of the template, without losing an edit.

Copier alone overwrites files that git ignores, reverts uncommitted changes of other services in a monorepo, and deletes
files that the template has dropped, even if they were edited. So Copier runs in a temporary repository with only the
committed files of this service, and the changed files are copied back at the end.
"""

import filecmp
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safe_migrations.env_files import environment_of_programs
from safe_migrations.errors import MigrationError, TemplateError
from safe_migrations.history.git import address_for_git, git
from safe_migrations.template.releases import ANSWERS, News, copier, read_answers, replace_source
from safe_migrations.template.workspace import copy_back, paths, refuse_to_overwrite, temporary_repository

_INSTALL = ["pdm", "update", "alembic-safe-migrations"]  # pdm install would keep the release of pdm.lock
LOCK = [*_INSTALL[:2], "--no-sync", *_INSTALL[2:]]
_CHECKS = [["pdm", "run", script] for script in ("lint", "typecheck", "test")]
_AGAIN = "safe-migrations template-update"
_NOTHING_ELSE = nullcontext()
# In this folder only: a monorepo has other services.
_REVERT = "git reset --quiet -- . && git checkout -- . && git clean -fd ."


@dataclass(frozen=True)
class Update:
    """The result of an update.

    Attributes:
        files: the changed files, relative to the service's folder.
        new_answers: the new questions with their default answers.
        to_decide: what the user has to decide, as sentences.
    """

    files: tuple[str, ...]
    new_answers: tuple[str, ...]
    to_decide: tuple[str, ...]

    def as_text(self) -> str:
        """The result as text."""
        files = f"Changed files:{_as_list(self.files)}"
        return "\n".join([files, *(f"New question with its default answer: {answer}" for answer in self.new_answers)])

    def refuse_undecided(self) -> None:
        """Stop if there is something to decide.

        Raises:
            MigrationError: with the list.
        """
        if self.to_decide:
            raise MigrationError(
                f"The update is applied, and these files need a decision:{_as_list(self.to_decide)}\n"
                f"Then run the checks, and commit:\n{_all_of([_INSTALL, *_CHECKS])}\n"
                f"Or revert the update:\n{_REVERT}"
            )


def update(
    folder: Path,
    news: News,
    *,
    data: Sequence[str] = (),
    trust: bool = False,
    writing: AbstractContextManager[object] = _NOTHING_ELSE,
) -> Update:
    """Update a service to the template's newest release.

    Args:
        folder: of the service; everything in it must be committed.
        data: answers to change, as NAME=VALUE.
        trust: whether code of the template may run here, which some releases need.
        writing: entered while the service's files are written, and not before the result is known.

    Raises:
        TemplateError: the update is impossible; nothing was changed.
    """
    _refuse_untrusted(news, trust)
    before = read_answers(folder)
    with temporary_repository(folder) as temporary:
        options = [*(f"--data={answer}" for answer in data), *["--trust"] * trust]
        _merge(folder, temporary, str(before["_src_path"]), options)
        after = read_answers(temporary)
        _refuse_reset(before, after, data)
        kept = _keep_edited(temporary, folder, before)
        changed = paths(temporary, "diff", "--name-only", "--no-renames", "--relative", "HEAD", "--", ".")
        changed += paths(temporary, "ls-files", "--others")
        refuse_to_overwrite(folder, changed)
        kept += _keep_what_is_no_text(temporary, folder, changed)
        with writing:
            refuse_unfinished(folder)  # again, because files may have changed meanwhile
            copy_back(temporary, folder, [*sorted(set(changed) - {ANSWERS}), ANSWERS])
    ignored = paths(folder, "ls-files", "--others", "--ignored", "--exclude-standard", "--", *changed)
    kept += [f"{path}: git ignores this new file; to commit it, git add --force" for path in ignored]
    new_answers = (f"{name}: {after[name]}" for name in after if name not in before)
    return Update(tuple(sorted(set(changed))), tuple(new_answers), (*unsolved(folder), *kept))


def unsolved(folder: Path) -> list[str]:
    """The unsolved conflicts of an update, as sentences."""
    unmerged = paths(folder, "diff", "--name-only", "--relative", "--diff-filter=U", "--", ".", may_fail=True)
    both = ("--files-with-matches", "--all-match", "-e", "^<<<<<<< ", "-e", "^>>>>>>> ")
    text_files = ("--no-index", "--exclude-standard", "-I")  # also outside a repository
    marked = paths(folder, "grep", *text_files, *both, "--", ".", may_fail=True)
    listed = ("--cached", "--others", "--exclude-standard")
    rejections = paths(folder, "ls-files", *listed, "--", "*.rej", may_fail=True)
    rejected = [path for path in rejections if folder.joinpath(path.removesuffix(".rej")).exists()]
    return [
        *(f"{path}: a conflict; solve it, then git add" for path in sorted({*unmerged, *marked})),
        *(f"{path}: changes that could not be merged; apply them by hand, then remove this file" for path in rejected),
    ]


def check_commands(*, install: bool) -> list[list[str]]:
    """The commands that check a service after an update.

    Args:
        install: whether dependencies may have changed.
    """
    return [_INSTALL] * install + _CHECKS


def check(folder: Path, *, install: bool) -> None:
    """Run the service's own checks, and show their output.

    Raises:
        MigrationError: a check failed, or PDM is not installed.
    """
    commands = check_commands(install=install)
    if not shutil.which("pdm"):
        raise MigrationError(
            "The update is applied, but PDM, which runs the checks, is not installed. To install PDM and check:\n"
            f"python3 -m pip install 'pdm[locked]' && {_all_of(commands)}"
        )
    for command in commands:
        print(f"$ {' '.join(command)}", flush=True)
        if subprocess.run(command, cwd=folder, env=environment_of_programs()).returncode != 0:
            raise MigrationError(
                f"The update is applied, but `{' '.join(command)}` failed. Correct the cause, and commit. Or revert "
                f"the update:\n{_REVERT}"
            )


def refuse_without_git() -> None:
    """Stop if git, which an update needs, is not installed.

    Raises:
        TemplateError: git is not installed.
    """
    if not shutil.which("git"):
        raise TemplateError(
            "An update needs git, which is not installed. Install git, then run the same command again."
        )


def refuse_unfinished(folder: Path) -> None:
    """Stop unless everything is committed, and no conflict of an earlier update is left.

    Raises:
        TemplateError: something is not committed or not solved, or there is no repository.
    """
    if not git(folder, "rev-parse", "--git-dir", may_fail=True):
        raise TemplateError(
            "An update needs a git repository, and this service is in none. Nothing was changed. To create a "
            f"repository, and update:\ngit init && git add --all && git commit -m 'Before the update' && {_AGAIN}"
        )
    if left := unsolved(folder):
        raise TemplateError(
            f"Nothing was changed, because these files still need a decision after an earlier update:{_as_list(left)}"
        )
    changed = paths(folder, "status", "--porcelain", "--untracked-files=normal", "--no-renames", "--", ".")
    if changed:
        raise TemplateError(
            f"There are uncommitted changes ({_listed(line[3:] for line in changed)}). Nothing was changed. Commit "
            f"the changes, or stash them and update:\ngit stash --include-untracked && {_AGAIN}"
        )


def _merge(folder: Path, temporary: Path, source: str, options: Sequence[str]) -> None:
    """Let Copier merge, which would pass on the login of the template's URL to git in command lines."""
    if (address := address_for_git(source)) != source:
        replace_source(temporary, address)
        identity = ("-c", "user.name=template-update", "-c", "user.email=template-update")
        git(temporary, *identity, "commit", "--quiet", "--all", "--message=The address without the login")
    copier(folder, "update", "--defaults", "--skip-answered", "--quiet", *options, os.fspath(temporary))
    if address != source:
        replace_source(temporary, source)


def _refuse_untrusted(news: News, trust: bool) -> None:
    reasons = [f"{release.version}: {release.trust}" for release in news.releases if release.trust]
    if reasons and not trust:
        raise TemplateError(
            f"This update runs code of the template in this service ({'; '.join(reasons)}). Nothing was changed. If "
            f"you trust the template:\n{_AGAIN} --trust"
        )


def _refuse_reset(before: dict[str, Any], after: dict[str, Any], data: Sequence[str]) -> None:
    """Stop if Copier has silently replaced an answer that is no longer valid by the default."""
    chosen = {answer.partition("=")[0] for answer in data}
    if unknown := sorted(chosen - after.keys()):
        raise TemplateError(
            f"The template has no question {', '.join(unknown)}. Nothing was changed. {ANSWERS} lists the questions."
        )
    reset = [
        name
        for name in before
        if name in after and before[name] != after[name] and name not in (*chosen, "_commit", "_src_path")
    ]
    if reset:
        changes = "; ".join(f"{name} is {before[name]}, and would become {after[name]}" for name in reset)
        options = " ".join(f"--data {shlex.quote(f'{name}={after[name]}')}" for name in reset)
        raise TemplateError(
            f"The new release no longer accepts an answer of this service ({changes}). Nothing was changed. Choose "
            f"another answer, for example:\n{_AGAIN} {options}"
        )


def _keep_edited(temporary: Path, folder: Path, answers: dict[str, Any]) -> list[str]:
    """Keep the files that the template has dropped and the service had edited; return a sentence for each."""
    dropped = list(dict.fromkeys(paths(temporary, "ls-files", "--deleted")))  # listed once for each stage
    if not dropped:
        return []
    git(temporary, "checkout", "HEAD", "--", *dropped)
    source = (
        f"--vcs-ref={answers['_commit']}",
        f"--data-file={folder / ANSWERS}",
        "--",
        address_for_git(answers["_src_path"]),
    )
    with TemporaryDirectory(prefix="template-update-") as original:
        copier(folder, "copy", "--defaults", "--skip-tasks", "--quiet", *source, original)
        unedited, _, _ = filecmp.cmpfiles(original, temporary, dropped, shallow=False)
    for path in unedited:
        temporary.joinpath(path).unlink()
    edited = [path for path in dropped if path not in unedited]
    return [
        f"{path}: the template no longer has this file, and you have edited it; delete it by git rm, or keep it"
        for path in edited
    ]


def _keep_what_is_no_text(temporary: Path, folder: Path, changed: Iterable[str]) -> list[str]:
    """Keep the files that Copier overwrites, because they are not UTF-8; return a sentence for each."""
    kept = [path for path in dict.fromkeys(changed) if not _is_text(folder / path)]
    if kept:
        git(temporary, "checkout", "HEAD", "--", *kept)
    return [f"{path}: not UTF-8 text, so that the update can't be merged; the file was not changed" for path in kept]


def _is_text(file: Path) -> bool:
    """Whether a file is text in UTF-8, or does not exist."""
    try:
        return not file.is_file() or "\0" not in file.read_text("utf-8")
    except UnicodeDecodeError:
        return False


def _as_list(sentences: Iterable[str]) -> str:
    return "".join(f"\n  {sentence}" for sentence in sentences)


def _all_of(commands: Iterable[Sequence[str]]) -> str:
    return " && ".join(map(shlex.join, commands))


def _listed(paths: Iterable[str]) -> str:
    first, *others = paths
    return f"{first} and {len(others)} more" if others else first
