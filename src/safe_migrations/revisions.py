"""The revisions of this code beside those of a database. Revision files are read, not run: a probe needs no Alembic."""

import ast
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from safe_migrations.errors import ConfigurationError
from safe_migrations.printable import printable

AT_HEAD, FRESH, BEHIND = "at head", "fresh", "behind"
COULD_NOT_TELL = "could not tell"  # the database could not be read
UNKNOWN_REVISION, SEVERAL_HEADS, REPLACED_REVISION = "unknown revision", "several heads", "replaced revision"
EXPAND, CONTRACT = "expand", "contract"  # phases
NUMBER = re.compile(r"\d{8}_(\d{4})_")  # YYYYMMDD_NNNN_description.py
EXIT_STATUS = {AT_HEAD: 0, FRESH: 3, BEHIND: 4, UNKNOWN_REVISION: 6, SEVERAL_HEADS: 7, REPLACED_REVISION: 25}


@dataclass(frozen=True)
class Place:
    """The place of a revision in the history, as its file declares it.

    Attributes:
        follows: its `down_revision`.
        depends_on: revisions, or labels of branches.
        labels: its `branch_labels`.
        replaces: the revisions that a baseline replaces, besides its own.
        deploy_first: the release that still has these revisions, if it is known.
        phase: its `phase`.
    """

    follows: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    deploy_first: tuple[str, ...] = ()
    phase: tuple[str, ...] = ()


@dataclass(frozen=True)
class Baseline:
    """The revision that a squash has written.

    Attributes:
        revision: its id, which is the id of the last replaced revision.
        deploy_first: the release that still has the revisions that it replaces; empty if that is not known.
    """

    revision: str
    deploy_first: str


@dataclass(frozen=True)
class Revisions:
    """The revisions of this code.

    Attributes:
        files: the file of each revision.
        heads: the newest revisions, which no other one follows or depends on.
        unmerged: the heads of one branch: two developers have each added a revision.
        target: what upgrades to all heads, `head` or `heads`.
        replaced: the baseline that replaces a revision, by the id of the revision.
        places: the place of each revision.
    """

    files: Mapping[str, Path]
    heads: frozenset[str]
    unmerged: frozenset[str]
    target: str
    replaced: Mapping[str, Baseline]
    places: Mapping[str, Place]

    @classmethod
    def of(cls, files: Mapping[str, Path], places: Mapping[str, Place]) -> "Revisions":
        """Find the heads."""
        labelled = {label: revision for revision, place in places.items() for label in place.labels}
        leaves = places.keys() - {below for place in places.values() for below in place.follows}
        needed = {labelled.get(name, name) for place in places.values() for name in place.depends_on}
        heads = frozenset(leaves - needed)
        replaced = {
            old: Baseline(revision, "".join(place.deploy_first[:1]))
            for revision, place in places.items()
            for old in place.replaces
            if old not in places
        }
        return cls(files, heads, _unmerged(heads, places), "heads" if len(leaves) > 1 else "head", replaced, places)

    def in_order(self) -> list[str]:
        """All revisions, each after the revisions that must run before.

        Raises:
            ConfigurationError: they follow or need each other in a circle.
        """
        before = self._required()
        try:
            return list(TopologicalSorter({revision: before[revision] for revision in sorted(before)}).static_order())
        except CycleError as error:
            raise ConfigurationError(
                f"These revisions depend on each other in a cycle: {named(error.args[1][1:], self.files)}. "
                "Correct down_revision or depends_on in one of these files."
            ) from None

    def pending(self, current: Iterable[str]) -> list[str]:
        """The revisions that a database lacks, in the order in which they would run.

        Raises:
            ConfigurationError: the revisions follow or need each other in a circle.
        """
        applied = _with_all_before(current, self._required())
        return [revision for revision in self.in_order() if revision not in applied]

    def _required(self) -> dict[str, list[str]]:
        """The revisions that have to run before each revision."""
        labelled = {label: revision for revision, place in self.places.items() for label in place.labels}
        names = {
            revision: [*place.follows, *(labelled.get(name, name) for name in place.depends_on)]
            for revision, place in self.places.items()
        }
        return {revision: sorted(set(before) & names.keys()) for revision, before in names.items()}

    def baseline_of(self, unknown: Iterable[str]) -> Baseline | None:
        """The baseline that replaces revisions of a database; None if no baseline replaces all of them."""
        baselines = [self.replaced.get(revision) for revision in unknown]
        return baselines[0] if baselines and None not in baselines else None


@dataclass(frozen=True)
class Comparison:
    """A database beside the revisions of this code.

    Attributes:
        state: one of the names above.
        sentence: what that means, in one line: probes write to logs.
        is_ready: whether this code can run on the database, see `compare`.
    """

    state: str
    sentence: str
    is_ready: bool


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
    places: dict[str, Place] = {}
    try:
        for file in (file for folder in folders for file in folder.glob("[!.]*.py")):  # as Alembic: no hidden files
            text = file.read_text(encoding="utf-8")
            if revision := assigned(text, "revision"):
                files[revision[0]] = file
                names = ("down_revision", "depends_on", "branch_labels", "replaces", "deploy_first", "phase")
                places[revision[0]] = Place(*(assigned(text, name) for name in names))
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"A revision file can't be read ({error}). Correct this file.") from None
    if not files:
        where = ", ".join(map(str, folders))
        raise ConfigurationError(f"There are no revision files in {where}. Restore the files from the repository.")
    return Revisions.of(files, places)


def _unmerged(heads: Collection[str], places: Mapping[str, Place]) -> frozenset[str]:
    """The heads of one branch: a label, or a base of its own, declares another branch."""
    if len(heads) < 2:
        return frozenset()
    followed = {revision: place.follows for revision, place in places.items()}
    lines = {head: _with_all_before([head], followed) for head in heads}
    labels = {head: {label for revision in line for label in places[revision].labels} for head, line in lines.items()}
    return frozenset(
        head
        for head in heads
        for other in heads
        if head != other and lines[head] & lines[other] and labels[head] == labels[other]
    )


def _with_all_before(revisions: Iterable[str], before: Mapping[str, Iterable[str]]) -> set[str]:
    """Revisions with all earlier revisions."""
    line: set[str] = set()
    following = set(revisions) & before.keys()
    while following:
        line |= following
        following = {below for revision in following for below in before[revision]} & before.keys() - line
    return line


def number_and_message(revision: str, file: Path, message: str) -> str:
    """A revision for the user, such as `0007 add a sku`; the id replaces a missing number."""
    number = NUMBER.match(file.name)
    return printable(" ".join([number[1] if number else revision, *message.split()]))


def full_name(revision: str, file: Path, message: str) -> str:
    """A revision for the user, by its number, message and file."""
    return f"{number_and_message(revision, file, message)} ({printable(file.name)})"


def named(revisions: Collection[str], files: Mapping[str, Path]) -> str:
    """Revisions for messages, each by its number, message and file where this code has one."""
    shown = (
        full_name(revision, files[revision], message_of(files[revision])) if revision in files else printable(revision)
        for revision in sorted(revisions)
    )
    return ", ".join(shown) or "base"


def message_of(file: Path) -> str:
    """The first paragraph of a revision file, which is its message; empty if the file can't be read."""
    try:
        return (ast.get_docstring(ast.parse(file.read_bytes())) or "").partition("\n\n")[0]
    except (OSError, SyntaxError, ValueError):
        return ""


def state_of(current: Collection[str], heads: Collection[str], *, unmerged: bool, unknown: bool, replaced: bool) -> str:
    """The state of a database, as far as its revisions show it.

    Args:
        unmerged: whether two heads are of one branch.
        unknown: whether this code lacks one of the database's revisions.
        replaced: whether a baseline replaces the unknown revisions.
    """
    if unmerged:
        return SEVERAL_HEADS
    if unknown:
        return REPLACED_REVISION if replaced else UNKNOWN_REVISION
    if not current:
        return FRESH
    return AT_HEAD if set(current) == set(heads) else BEHIND


def compare(current: Collection[str], revisions: Revisions) -> Comparison:
    """Compare the revisions of a database with the revisions of this code.

    The code is ready at head, on a newer database, and where only contract revisions are pending: `deploy` leaves these
    until the code runs everywhere.
    """
    unknown = sorted(set(current) - revisions.files.keys())
    baseline = revisions.baseline_of(unknown)
    state = state_of(
        current,
        revisions.heads,
        unmerged=bool(revisions.unmerged),
        unknown=bool(unknown),
        replaced=baseline is not None,
    )
    pending = revisions.pending(current)
    contracts = state == BEHIND and all(revisions.places[revision].phase == (CONTRACT,) for revision in pending)
    run = f"Run: alembic upgrade {revisions.target}"
    at, expected = named(current, revisions.files), named(revisions.heads, revisions.files)
    sentences = {
        SEVERAL_HEADS: f"This code has several heads, {named(revisions.unmerged, revisions.files)}. To join the heads, "
        "run: safe-migrations rebase",
        FRESH: f"The database has no revision; this code expects {expected}. {run}",
        UNKNOWN_REVISION: f"The database is at revision {at}, which this code does not have: the database is newer "
        "than this code. During a rollout, an old replica may count as ready.",
        REPLACED_REVISION: f"The database is at revision {at}, which a baseline of this code has replaced. First "
        f"deploy {(baseline and baseline.deploy_first) or 'a release that has this revision'}.",
        BEHIND: f"The database is at revision {at}; this code expects {expected} ({len(pending)} pending). {run}",
        AT_HEAD: f"The database is at head, revision {at}.",
    }
    if contracts:
        sentences[BEHIND] = (
            f"The database is at revision {at}; the contract revisions up to {expected} ({len(pending)} pending) wait "
            "until this code runs everywhere. Then run: safe-migrations deploy --contract"
        )
    return Comparison(state, sentences[state], contracts or state in (AT_HEAD, UNKNOWN_REVISION))
