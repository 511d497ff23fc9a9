"""What is measured of both sides, and progress."""

import sys
from dataclasses import dataclass, field
from statistics import median


@dataclass
class Times:
    """What was measured of both, in seconds."""

    ours: list[float] = field(default_factory=list)
    stock: list[float] = field(default_factory=list)

    def add(self, title: str, ours: float, stock: float) -> None:
        """Keep the times of a round, and show them as progress."""
        self.ours.append(ours)
        self.stock.append(stock)
        progress(f"{title}, round {len(self.ours)}: ours {ours:.2f} s, stock {stock:.2f} s")

    def cells(self) -> tuple[str, str, str]:
        """Both medians, and the median of the rounds' ratios: a slow minute of the machine is in both of a round."""
        ratio = median(ours / stock for ours, stock in zip(self.ours, self.stock, strict=True))
        return f"{median(self.ours):.2f} s", f"{median(self.stock):.2f} s", f"{ratio:.2f}"


def progress(line: str) -> None:
    """Print a line on standard error, so that standard output has the table alone."""
    print(line, file=sys.stderr, flush=True)
