"""The revisions of this code beside those of a database. Revision files are read, not run: a probe needs no Alembic."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safe_migrations.errors import ConfigurationError
from safe_migrations.printable import printable

AT_HEAD, FRESH, BEHIND = "at head", "fresh", "behind"
UNKNOWN_REVISION, SEVERAL_HEADS = "unknown revision", "several heads"
EXIT_STATUS = {AT_HEAD: 0, FRESH: 3, BEHIND: 4, UNKNOWN_REVISION: 6, SEVERAL_HEADS: 7}


@dataclass(frozen=True)
class Revisions:
    """The revisions of this code.

    Attributes:
        files: the file of each revision.
        heads: the newest ones.
    """

    files: Mapping[str, Path]
    heads: frozenset[str]


@dataclass(frozen=True)
class Comparison:
    """A database beside the revisions of this code.

    Attributes:
        state: one of the names above.
        sentence: what that means, in one line: probes write to logs.
    """

    state: str
    sentence: str


def assigned(text: str, name: str) -> tuple[str, ...]:
    """The strings that a revision file assigns to a name, such as `revision`, `down_revision` or `depends_on`."""
    value = re.search(rf"""^{name}\b[^=]*=\s*(\([^)]*\)|\[[^\]]*\]|"[^"]*"|'[^']*')""", text, re.MULTILINE)
    return tuple(re.findall(r"""["']([^"']+)["']""", value[1])) if value else ()


def read_revisions(folders: Iterable[Path]) -> Revisions:
    """The revisions in folders, without running their files.

    Raises:
        ConfigurationError: there is none, or a file can't be read.
    """
    folders = list(folders)
    files: dict[str, Path] = {}
    followed: set[str] = set()
    try:
        for file in (file for folder in folders for file in folder.glob("[!.]*.py")):  # as Alembic: no hidden files
            text = file.read_text(encoding="utf-8")
            if revision := assigned(text, "revision"):
                files[revision[0]] = file
                followed.update(assigned(text, "down_revision"))
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"A revision file can't be read ({error}); correct that file.") from None
    if not files:
        where = ", ".join(map(str, folders))
        raise ConfigurationError(f"There are no revision files in {where}; restore them from the repository.")
    return Revisions(files, frozenset(files.keys() - followed))


def named(revisions: Collection[str], files: Mapping[str, Path]) -> str:
    """Revisions for messages, each with its file where this code has one.

    Args:
        revisions: their ids.
        files: the file of each revision of this code.
    """
    shown = (
        f"{revision} ({files[revision].name})" if revision in files else printable(revision)
        for revision in sorted(revisions)
    )
    return ", ".join(shown) or "base"


def state_of(current: Collection[str], heads: Collection[str], *, unknown: bool) -> str:
    """The state of a database, as far as its revisions show it.

    Args:
        current: the revisions that the database is at.
        heads: the newest revisions of this code.
        unknown: whether this code lacks one of the database's revisions.
    """
    if len(heads) > 1:
        return SEVERAL_HEADS
    if unknown:
        return UNKNOWN_REVISION
    if not current:
        return FRESH
    return AT_HEAD if set(current) == set(heads) else BEHIND


def compare(current: Collection[str], revisions: Revisions) -> Comparison:
    """Compare the revisions of a database with those of this code.

    Args:
        current: the revisions that the database is at.
        revisions: those of this code.
    """
    state = state_of(current, revisions.heads, unknown=bool(set(current) - revisions.files.keys()))
    at, expected = named(current, revisions.files), named(revisions.heads, revisions.files)
    sentences = {
        SEVERAL_HEADS: f"This code has several heads, {expected}; join them: safe-migrations rebase",
        FRESH: f"The database has no revision; this code expects {expected}. Run: alembic upgrade head",
        UNKNOWN_REVISION: f"The database is at revision {at}, which this code does not have: the database is newer "
        "than this code. During a rollout, an old replica may count as ready.",
        BEHIND: f"The database is at revision {at}; this code expects {expected}. Run: alembic upgrade head",
        AT_HEAD: f"The database is at head, revision {at}.",
    }
    return Comparison(state, sentences[state])
