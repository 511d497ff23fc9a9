"""The names of revisions for the user: number, message and file."""

from pathlib import Path

from alembic.script import Script

from safe_migrations import revisions


def number_and_message(script: Script) -> str:
    """A revision by its number and message, such as `0007 add a sku`; its id stands for a missing number."""
    return revisions.number_and_message(script.revision, Path(script.path), script.doc)


def full_name(script: Script) -> str:
    """A revision by its number, message and file."""
    return revisions.full_name(script.revision, Path(script.path), script.doc)
