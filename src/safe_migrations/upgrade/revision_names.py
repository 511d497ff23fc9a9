"""The names of revisions for the user: number, message and file; and how to find a revision that has no file."""

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from alembic.script import Script

from safe_migrations import revisions
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
