"""How far a backfill is: a bar on a terminal, else a line now and then."""

import shutil
import time
from dataclasses import dataclass, field
from typing import TextIO

from safe_migrations.postgres.timeouts import REPORT, duration_text

BAR = 24  # characters


@dataclass
class Progress:
    """How far a backfill is.

    Attributes:
        name: the backfill's.
        stream: where to show it.
        first: how many rows were done when this run began.
        total: about how many there are, with those; 0 where that isn't known.
    """

    name: str
    stream: TextIO
    first: int = 0
    total: int = 0
    _begun: float = field(default_factory=time.monotonic)
    _reported: float = 0.0

    def show(self, rows: int, note: str = "") -> None:
        """Show it: at once on a terminal, else if the last line is some time ago.

        Args:
            rows: that are done.
            note: what it waits for.
        """
        now = time.monotonic()
        line = self.line(rows, now - self._begun) + note
        if self.stream.isatty():
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{line[:width]:{width}}", end="", file=self.stream, flush=True)
        elif now - max(self._begun, self._reported) >= REPORT:
            self._reported = now
            print(line, file=self.stream, flush=True)

    def line(self, rows: int, seconds: float) -> str:
        """It in a line.

        Args:
            rows: that are done.
            seconds: since this run began.
        """
        rate = (rows - self.first) / seconds
        total = max(self.total, rows)
        if not self.total:
            return f"{self.name}: {rows:,} rows, {rate:,.0f} rows/s"
        bar = f"[{'#' * (rows * BAR // total):-<{BAR}}] {rows * 100 // total} %"
        left = f", {duration_text((total - rows) / rate)} left" if rate else ""
        # What a narrow terminal cuts off comes last.
        return f"{self.name} {bar}, {rate:,.0f} rows/s{left}, {rows:,} of about {total:,} rows"

    def clear(self) -> None:
        """Take the bar away."""
        if self.stream.isatty():
            print("\r\033[K", end="", file=self.stream, flush=True)
