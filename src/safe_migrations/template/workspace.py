"""A scratch repository with one service's committed files, and the way back from there."""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from safe_migrations.errors import MigrationError
from safe_migrations.history.git import git


@contextmanager
def scratch_repository(folder: Path) -> Iterator[Path]:
    """The service's folder in a repository that has nothing but the committed files of this service.

    It borrows the objects (https://git-scm.com/docs/gitrepository-layout, objects/info/alternates). A worktree would do
    as well, but two can't be made at the same time.

    Args:
        folder: of the service.
    """
    asked = ("--show-object-format", "--show-prefix", "--path-format=absolute", "--git-path", "objects", "HEAD")
    format_, prefix, objects, commit = os.fsdecode(git(folder, "rev-parse", *asked)).splitlines()
    with TemporaryDirectory(prefix="template-update-") as temporary:
        root = Path(temporary)
        git(root, "init", "--quiet", "--template=", f"--object-format={format_}")
        root.joinpath(".git", "objects", "info").mkdir(exist_ok=True)
        root.joinpath(".git", "objects", "info", "alternates").write_text(f"{objects}\n")
        git(root, "update-ref", "HEAD", commit)
        git(root, "read-tree", f"--prefix={prefix}", f"HEAD:{prefix}")
        git(root, "checkout-index", "--all")
        yield root / prefix


def refuse_to_overwrite(folder: Path, changed: Iterable[str]) -> None:
    """What git does not have would be lost for good.

    Args:
        folder: of the service.
        changed: the files to write, from there.

    Raises:
        MigrationError: one of them, or what is in its way, is not committed.
    """
    files = paths(folder, "ls-files", "-v")  # a small letter: assumed unchanged; S: skipped in the worktree
    overlooked = {each[2:] for each in files if each[0].islower() or each[0] == "S"}
    committed = {each[2:] for each in files} - overlooked
    for path in changed:
        above = [str(parent) for parent in Path(path).parents[:-1]]
        for each in [path, *above]:
            file = folder / each
            in_the_way = os.path.lexists(file) if each == path else file.is_symlink() or file.is_file()
            if in_the_way and each not in committed:
                raise MigrationError(
                    f"The template changes {path}, and {each} here is not committed: git is told to ignore or to "
                    f"overlook it; nothing was changed. Move yours away, then pdm run template-update"
                )


def bring_over(scratch: Path, folder: Path, changed: Sequence[str]) -> None:
    """Make the service's folder like the scratch one, whole or not at all, and let git know what is unmerged.

    Args:
        scratch: where Copier has worked.
        folder: of the service.
        changed: the files, the answers last: as long as they are the old ones, the update is not done.

    Raises:
        MigrationError: a file can't be written; nothing was changed.
    """
    committed = paths(folder, "ls-files")
    try:
        for path in changed:
            _bring_file(scratch / path, folder / path)
        _bring_conflicts(scratch, folder)
    except BaseException as error:
        for path in changed:
            if path not in committed:
                folder.joinpath(path).unlink(missing_ok=True)
        git(folder, "checkout", "HEAD", "--", *(path for path in changed if path in committed))
        if isinstance(error, OSError):
            raise MigrationError(
                f"The update can't be written ({error}); nothing was changed. Then pdm run template-update"
            ) from error
        raise


def _bring_file(source: Path, target: Path) -> None:
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    else:
        target.unlink(missing_ok=True)
        with suppress(OSError):  # it is not empty
            os.removedirs(target.parent)


def _bring_conflicts(scratch: Path, folder: Path) -> None:
    """What is unmerged in the index there becomes so here, so that git, and tools for merging, know of it."""
    unmerged = os.fsdecode(git(scratch, "ls-files", "--unmerged", "--full-name")).splitlines()
    if not unmerged:
        return
    entries = [line.split("\t") for line in unmerged]
    for blob in {entry.split()[1] for entry, _ in entries}:
        git(folder, "hash-object", "-w", "--stdin", given=git(scratch, "cat-file", "blob", blob))
    merged = {path: f"0 {'0' * len(entry.split()[1])}\t{path}" for entry, path in entries}
    root = Path(os.fsdecode(git(folder, "rev-parse", "--show-toplevel")).rstrip("\n"))
    git(root, "update-index", "--index-info", given=[*merged.values(), *unmerged])


def paths(folder: Path, *arguments: str, may_fail: bool = False) -> list[str]:
    """The paths that git prints, from the folder; none if it fails, and may.

    Args:
        folder: where.
        arguments: a command of git's that takes -z, and its options.
        may_fail: whether that is an answer.

    Raises:
        MigrationError: git refuses, and may not.
    """
    command, *options = arguments
    return [os.fsdecode(path) for path in git(folder, command, "-z", *options, may_fail=may_fail).split(b"\0") if path]
