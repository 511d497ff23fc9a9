"""Importing the revision files, and what to do about a file that can't be imported."""

import os
import traceback
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from alembic.script import ScriptDirectory
from alembic.script.revision import CycleDetected
from alembic.util import CommandError

from safe_migrations import revisions
from safe_migrations.errors import RevisionError
from safe_migrations.postgres.server_errors import reason
from safe_migrations.upgrade.project import version_folders
from safe_migrations.upgrade.revision_names import search_command


def load_revisions(script_directory: ScriptDirectory) -> None:
    """Import the revision files.

    Raises:
        CommandError: they don't fit together.
        RevisionError: a file can't be imported, the revision that it follows is missing, two files have one id, or
            files depend on each other in a cycle.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* is not present")  # explained below
            warnings.filterwarnings("error", ".* is present more than once")  # Alembic would take one of them
            script_directory.get_heads()
    except CycleDetected as error:
        named = _named(version_folders(script_directory), error.revisions)
        raise RevisionError(
            f"These revisions depend on each other in a cycle: {named}. Correct down_revision or depends_on in one of "
            "these files, then run the same command again."
        ) from error
    except UserWarning as error:
        named = _named(version_folders(script_directory), str(error).split())
        raise RevisionError(
            f"These files have the same revision id: {named}. Delete the copy. Or give the copy an id of its own "
            "(revision), and the revision before it (down_revision). Then run the same command again."
        ) from error
    except CommandError:
        raise
    except (Exception, SystemExit) as error:  # a file that ends the process would end it with its own exit status
        raise _unreadable(version_folders(script_directory), error) from error


def _unreadable(folders: Sequence[Path], error: BaseException) -> RevisionError:
    """The error for a file that can't be imported, or follows a revision that no file has."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        frames.append((error.filename or "", error.lineno))
    inside = [(file, line) for file, line in frames if any(Path(file).is_relative_to(folder) for folder in folders)]
    files = [f"{os.path.relpath(file)}:{line}" for file, line in inside]
    if isinstance(error, KeyError) and not files:
        return _missing(folders, str(error.args[0]))
    place = files[-1] if files else "A revision file"
    return RevisionError(
        f"{place} can't be read ({reason(error)}). Correct that file, then run the same command again."
    )


def _named(folders: Sequence[Path], ids: Iterable[str]) -> str:
    """The files of revisions that Alembic can't load."""
    files = (file for folder in folders for file in sorted(folder.rglob("[!.]*.py")))
    named = (file for file in files if {*revisions.assigned(file.read_text(errors="replace"), "revision")} & {*ids})
    return ", ".join(map(os.path.relpath, named)) or ", ".join(sorted(ids))


def _missing(folders: Sequence[Path], revision: str) -> RevisionError:
    texts = {file: file.read_text(errors="replace") for folder in folders for file in sorted(folder.rglob("*.py"))}
    names = ("down_revision", "depends_on")
    following = [
        os.path.relpath(file)
        for file, text in texts.items()
        if any(revision in revisions.assigned(text, name) for name in names)
    ]
    files = " and ".join(following) or "A revision"
    where = " and ".join(os.path.relpath(folder) for folder in folders)
    return RevisionError(
        f"{files} follows the revision {revision}, but no file in {where} has this revision: the file was deleted, or "
        "its id was changed. A database may have run the revision, so restore the file. If no database has run the "
        f"revision, correct down_revision in {files}. Then run the same command again. To find the missing file:\n"
        f"{search_command(revision, folders)}"
    )
