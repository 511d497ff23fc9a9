"""How long the locks of a session are held, as if the trace took no time."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from safe_migrations.postgres.lock_modes import MODES


@dataclass
class TracedStep:
    """What one step did, or a revision without steps.

    Attributes:
        name: the step's; None for a revision without steps.
        seconds: from its first statement to its commit, without the time of the trace itself.
        locks: the lock modes on each table, from the weakest.
        held: how long a transaction held the strongest of these modes at most, in seconds; for a statement that can't
            run in a transaction, how long the statement took.
        scanned: the tables that were scanned.
        rewritten: the tables that were rewritten.
    """

    name: str | None
    seconds: float = 0.0
    locks: dict[str, list[str]] = field(default_factory=dict)
    held: dict[str, float] = field(default_factory=dict)
    scanned: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)


class LockTimes:
    """The locks that the transaction of a session holds now."""

    def __init__(self) -> None:
        self._own_seconds = 0.0
        self._statement_begun = 0.0
        self._held: dict[str, tuple[str, float]] = {}  # the strongest lock on each table, and since when

    def now(self) -> float:
        """The time, without that of the trace."""
        return time.monotonic() - self._own_seconds

    @contextmanager
    def not_counted(self) -> Iterator[None]:
        """Leave out the time that the block takes."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self._own_seconds += time.monotonic() - begun

    def begin_statement(self) -> None:
        """Note the begin of a statement, which takes its locks then."""
        self._statement_begun = self.now()

    def hold(self, table: str, mode: str) -> None:
        """Note that the statement has taken a lock; a weaker or an equal one is held already."""
        held = self._held.get(table)
        if held is None or MODES.index(held[0]) < MODES.index(mode):
            self._held[table] = mode, self._statement_begun

    def release(self, steps: Sequence[TracedStep]) -> None:
        """Note in the last step for how long the locks were held."""
        for table, (mode, since) in self._held.items():
            step = steps[-1]
            if mode == step.locks[table][-1]:
                step.held[table] = round(max(step.held.get(table, 0.0), self.now() - since), 3)
        self._held = {}
