"""The names of revisions for the user: number, message and file."""

from pathlib import Path

from alembic.script import Script

from safe_migrations.printable import printable
from safe_migrations.revisions import NUMBER


def number_and_message(script: Script) -> str:
    """A revision by its number and message, such as `0007 add a sku`; its id stands for a missing number."""
    number = NUMBER.match(Path(script.path).name)
    return printable(" ".join([number[1] if number else script.revision, *script.doc.split()]))


def full_name(script: Script) -> str:
    """A revision by its number, message and file."""
    return f"{number_and_message(script)} ({printable(Path(script.path).name)})"
