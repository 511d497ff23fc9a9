"""The progress of a backfill: a bar on a terminal, elsewhere a line from time to time."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TextIO

from safe_migrations.logs import uses_json, write
from safe_migrations.postgres.catalog import Session
from safe_migrations.postgres.timeouts import ReportTimer, duration_text

BAR = 24  # characters


@dataclass
class Progress:
    """The progress of a backfill.

    Attributes:
        name: the backfill's.
        stream: where to show it.
        first: how many rows were done when this run began.
        total: about how many rows there are, including those; 0 where this is not known.
    """

    name: str
    stream: TextIO
    first: int = 0
    total: int = 0
    _begun: float = field(default_factory=time.monotonic)
    _timer: ReportTimer = field(default_factory=ReportTimer)
    _reason: str = ""

    def show(self, rows: int, note: str = "") -> None:
        """Show the progress: at once on a terminal, elsewhere if the next line is due."""
        self._reason = ""
        line = self.line(rows, time.monotonic() - self._begun) + note
        if self._has_bar:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{line[:width]:{width}}", end="", file=self.stream, flush=True)
        elif self._timer.is_due():
            seconds = round(time.monotonic() - self._begun, 3)
            write(line, self.stream, backfill=self.name, rows=rows, total=self.total or None, seconds=seconds)

    def wait(self, reason: str, blocking: Sequence[Session] = ()) -> None:
        """Show what the backfill waits for in a line of its own, which may be long: at once, then from time to time."""
        if reason != self._reason or self._timer.is_due():
            self.clear()
            blockers = [session.fields for session in blocking]
            write(f"{self.name}: {reason}", self.stream, backfill=self.name, blockers=blockers)
        self._reason = reason

    def line(self, rows: int, seconds: float) -> str:
        """The progress in one line."""
        rate = (rows - self.first) / seconds
        total = max(self.total, rows)
        if not self.total:
            return f"{self.name}: {rows:,} rows, {rate:,.0f} rows/s"
        bar = f"[{'#' * (rows * BAR // total):-<{BAR}}] {rows * 100 // total} %"
        left = f", {duration_text((total - rows) / rate)} left" if rate else ""
        # A narrow terminal cuts off the end.
        return f"{self.name} {bar}, {rate:,.0f} rows/s{left}, {rows:,} of about {total:,} rows"

    def clear(self) -> None:
        """Remove the bar."""
        if self._has_bar:
            print("\r\033[K", end="", file=self.stream, flush=True)

    @property
    def _has_bar(self) -> bool:
        return self.stream.isatty() and not uses_json()
