"""The report of `safe-migrations rehearse` as a table."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from safe_migrations.command_line import as_table
from safe_migrations.operate.rehearse import Rehearsed
from safe_migrations.postgres.lock_modes import MODES, sql_name
from safe_migrations.printable import printable
from safe_migrations.trace.lock_times import TracedStep

HEADER = ("revision", "seconds", "strongest lock", "held", "", "scanned", "rewritten")
LEGEND = (
    "seconds: without other sessions. held: how long one transaction holds the lock; for a statement\n"
    "outside a transaction, its duration. For all locks and the numbers of rows:\n"
    "safe-migrations rehearse --json"
)
BAR = 8  # characters
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def as_text(rehearsed: Sequence[Rehearsed], encoding: str | None) -> str:
    """A line for each revision, and below it one for each of several steps.

    Args:
        encoding: of the output; without block characters in it, the bars are of ASCII.
    """
    longest = max(
        (seconds for result in rehearsed for step in result.steps for seconds in step.held.values()), default=0
    )
    blocks = _can_encode(encoding)
    cells = [
        (*before, _bar(seconds, longest, blocks=blocks), *after)
        for result in rehearsed
        for before, seconds, after in rows(result)
    ]
    return f"{as_table(HEADER, cells)}\n{LEGEND}"


Row = tuple[tuple[str, ...], float, tuple[str, ...]]  # the cells before the bar, its seconds, and the cells after it


def rows(result: Rehearsed) -> Iterator[Row]:
    """The row of a revision, and one for each of several steps."""
    strongest = max(result.steps, key=_strength)
    scanned = {table for step in result.steps for table in step.scanned}
    yield _row(result.name, result.seconds, strongest, scanned, result.rewritten)
    if len(result.steps) > 1:
        for step in result.steps:
            yield _row(f"  {step.name}", step.seconds, step, step.scanned, step.rewritten)


def _row(name: str, seconds: float, locking: TracedStep, scanned: Iterable[str], rewritten: Iterable[str]) -> Row:
    lock, held = "-", 0.0
    if locking.locks:
        table = _strongest(locking.locks, locking.held)
        lock, held = f"{sql_name(locking.locks[table][-1])} {table}", locking.held.get(table, 0.0)
    tables = (printable(", ".join(sorted(names))) or "-" for names in (scanned, rewritten))
    return (
        (printable(name), f"{seconds:.3f}", printable(lock), f"{held:.3f} s" if locking.locks else "-"),
        held,
        tuple(tables),
    )


def _strongest(locks: Mapping[str, list[str]], held: Mapping[str, float]) -> str:
    """The table with the strongest lock, of several the one that was locked for longest."""
    return max(locks, key=lambda table: (MODES.index(locks[table][-1]), held.get(table, 0.0)))


def _strength(step: TracedStep) -> tuple[int, float]:
    if not step.locks:
        return -1, 0.0
    table = _strongest(step.locks, step.held)
    return MODES.index(step.locks[table][-1]), step.held.get(table, 0.0)


def _bar(seconds: float, longest: float, *, blocks: bool) -> str:
    eighths = round(BAR * 8 * seconds / longest) if longest else 0
    if blocks:
        return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()
    return "#" * (eighths // 8)


def _can_encode(encoding: str | None) -> bool:
    try:
        _EIGHTHS.encode(encoding or "ascii")
    except UnicodeError:
        return False
    return True
