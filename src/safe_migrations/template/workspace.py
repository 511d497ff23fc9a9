"""A temporary repository with the committed files of one service, and copying changed files back."""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from safe_migrations.errors import TemplateError
from safe_migrations.history.git import git


@contextmanager
def temporary_repository(folder: Path) -> Iterator[Path]:
    """The service's folder in a repository with the committed files of this service only.

    It uses the objects of the service's repository, see objects/info/alternates of
    https://git-scm.com/docs/gitrepository-layout. Two worktrees could not be created at the same time.
    """
    options = ("--show-object-format", "--show-prefix", "--path-format=absolute", "--git-path", "objects", "HEAD")
    format_, prefix, objects, commit = os.fsdecode(git(folder, "rev-parse", *options)).splitlines()
    with TemporaryDirectory(prefix="template-update-") as name:
        root = Path(name)
        git(root, "init", "--quiet", "--template=", f"--object-format={format_}")
        root.joinpath(".git", "objects", "info").mkdir(exist_ok=True)
        root.joinpath(".git", "objects", "info", "alternates").write_text(f"{objects}\n")
        git(root, "update-ref", "HEAD", commit)
        git(root, "read-tree", f"--prefix={prefix}", f"HEAD:{prefix}")
        git(root, "checkout-index", "--all")
        yield root / prefix


def refuse_to_overwrite(folder: Path, changed: Iterable[str]) -> None:
    """Stop if an uncommitted file would be overwritten.

    Args:
        changed: the files to write, relative to the folder.

    Raises:
        TemplateError: a file, or a file or link in the place of its folder, is not committed.
    """
    files = paths(folder, "ls-files", "-v")  # lower case: assume-unchanged; S: skip-worktree
    overlooked = {line[2:] for line in files if line[0].islower() or line[0] == "S"}
    committed = {line[2:] for line in files} - overlooked
    for path in changed:
        above = [str(parent) for parent in Path(path).parents[:-1]]
        for parent in [path, *above]:
            file = folder / parent
            exists = os.path.lexists(file) if parent == path else file.is_symlink() or file.is_file()
            if exists and parent not in committed:
                raise TemplateError(
                    f"The template changes {path}, and {parent} here is not committed, because git ignores or skips "
                    "it. Nothing was changed. Move your file away, then run:\nsafe-migrations template-update"
                )


def copy_back(temporary: Path, folder: Path, changed: Sequence[str]) -> None:
    """Copy the changed files into the service's folder, all or none, and record conflicts in git's index.

    Args:
        changed: the files; the answers come last, because they record that the update is complete.

    Raises:
        TemplateError: a file can't be written; nothing was changed.
    """
    committed = paths(folder, "ls-files")
    try:
        for path in changed:
            _copy_file(temporary / path, folder / path)
        _copy_conflicts(temporary, folder)
    except BaseException as error:
        for path in changed:
            if path not in committed:
                folder.joinpath(path).unlink(missing_ok=True)
        git(folder, "checkout", "HEAD", "--", *(path for path in changed if path in committed))
        if isinstance(error, OSError):
            raise TemplateError(
                f"Writing the update failed ({error}). Nothing was changed. Correct the cause, then run:\n"
                "safe-migrations template-update"
            ) from error
        raise


def _copy_file(source: Path, target: Path) -> None:
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    else:
        target.unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            os.removedirs(target.parent)


def _copy_conflicts(temporary: Path, folder: Path) -> None:
    """Copy unmerged entries of the index, so that git and merge tools show the conflicts."""
    unmerged = os.fsdecode(git(temporary, "ls-files", "--unmerged", "--full-name")).splitlines()
    if not unmerged:
        return
    entries = [line.split("\t") for line in unmerged]
    for blob in {entry.split()[1] for entry, _ in entries}:
        git(folder, "hash-object", "-w", "--stdin", standard_input=git(temporary, "cat-file", "blob", blob))
    merged = {path: f"0 {'0' * len(entry.split()[1])}\t{path}" for entry, path in entries}
    root = Path(os.fsdecode(git(folder, "rev-parse", "--show-toplevel")).rstrip("\n"))
    git(root, "update-index", "--index-info", standard_input=[*merged.values(), *unmerged])


def paths(folder: Path, *arguments: str, may_fail: bool = False) -> list[str]:
    """The paths that git prints, relative to the folder.

    Args:
        arguments: a command of git with -z, and its options.

    Raises:
        HistoryError: git failed.
    """
    command, *options = arguments
    return [os.fsdecode(path) for path in git(folder, command, "-z", *options, may_fail=may_fail).split(b"\0") if path]
