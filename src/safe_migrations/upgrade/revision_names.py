"""The names of revisions for the user: number, message and file; and how to find a revision that has no file."""

import os
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic.script import Script, ScriptDirectory
from alembic.script.revision import ResolutionError
from alembic.util import CommandError

from safe_migrations import revisions
from safe_migrations.errors import runnable
from safe_migrations.printable import printable


def number_and_message(script: Script) -> str:
    """A revision by its number and message, such as `0007 add a sku`; the id replaces a missing number."""
    return revisions.number_and_message(script.revision, Path(script.path), script.doc)


def full_name(script: Script) -> str:
    """A revision by its number, message and file."""
    return revisions.full_name(script.revision, Path(script.path), script.doc)


def search_command(revision: str, folders: Iterable[Path]) -> str:
    """The command that finds the commits with a revision in the folders of the revision files."""
    places = map(os.path.relpath, folders)
    return shlex.join(["git", "log", "--all", "--oneline", "-S", printable(revision), "--", *places])


@contextmanager
def explained_destination(script_directory: ScriptDirectory, *destinations: str) -> Iterator[None]:
    """Say which id a number stands for: messages name revisions by their numbers, which Alembic does not know."""
    try:
        yield
    except CommandError as error:
        if not isinstance(error.__cause__, ResolutionError):
            raise
        scripts = reversed(list(script_directory.walk_revisions()))
        numbered = [script for script in scripts if number_and_message(script).split(" ")[0] in destinations]
        ids = "".join(f"\n{full_name(script)} has the id {script.revision}." for script in numbered)
        raise CommandError(runnable(f"{error}{ids}\nTo list the revisions with their ids:\nalembic history")) from error
