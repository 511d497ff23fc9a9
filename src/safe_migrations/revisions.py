"""The revisions of this code beside that of a database, for a probe: their files are read, and not run."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from safe_migrations.errors import ConfigurationError

REVISION = re.compile(r"""^revision\b[^=]*=[\s(]*["']([^"']+)["']""", re.MULTILINE)
DOWN_REVISION = re.compile(r"""^down_revision\b[^=]*=\s*(\([^)]*\)|\[[^\]]*\]|"[^"]*"|'[^']*')""", re.MULTILINE)

AT_HEAD, EMPTY, BEHIND, NEWER, SEVERAL_HEADS = "at head", "empty", "behind", "newer", "several heads"


@dataclass(frozen=True)
class Comparison:
    """Where a database is.

    Attributes:
        place: one of the names above.
        sentence: the same, for people.
    """

    place: str
    sentence: str


def read_revisions(folders: Iterable[Path]) -> tuple[frozenset[str], frozenset[str]]:
    """The heads among the revisions of folders, and all of them, without running the files.

    Args:
        folders: where the revision files are.

    Raises:
        ConfigurationError: there is none, or one can't be read.
    """
    folders = list(folders)
    known, before = set(), set()
    try:
        for file in (each for folder in folders for each in folder.glob("[!.]*.py")):  # not an editor's own, as Alembic
            text = file.read_text(encoding="utf-8")
            if revision := REVISION.search(text):
                known.add(revision[1])
                down_revision = DOWN_REVISION.search(text)
                before.update(re.findall(r"""["']([^"']+)["']""", down_revision[1] if down_revision else ""))
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"A revision can't be read ({error}): correct that file.") from None
    if not known:
        where = ", ".join(map(str, folders))
        raise ConfigurationError(f"No revision is in {where}: restore its files, as they are in the repository.")
    return frozenset(known - before), frozenset(known)


def compare(current: Collection[str], heads: Collection[str], known: Collection[str]) -> Comparison:
    """Compare the revisions of a database with those of this code.

    Args:
        current: the revisions that the database is at.
        heads: the newest revisions of this code.
        known: all revisions of this code.
    """
    at, expected = _names(current), _names(heads)
    if len(heads) > 1:
        return Comparison(SEVERAL_HEADS, f"This code has several heads, {expected}: safe-migrations rebase")
    if not current:
        return Comparison(
            EMPTY,
            f"The database has no revision yet, this code expects {expected}: run alembic upgrade head "
            "(safe-migrations state looks closer).",
        )
    if set(current) - set(known):
        return Comparison(
            NEWER,
            f"The database is at revision {at}, which this code does not know: it is newer than this code, which an "
            "old replica may count as ready while a release is rolled out.",
        )
    if set(current) != set(heads):
        return Comparison(
            BEHIND, f"The database is at revision {at}, this code expects {expected}: run alembic upgrade head"
        )
    return Comparison(AT_HEAD, f"The database is at head, revision {at}.")


def _names(revisions: Collection[str]) -> str:
    return ", ".join(sorted(revisions)) or "base"
