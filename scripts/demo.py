"""`pdm run demo`: what a service of the template does in production, and what stock Alembic does in its place.

Both are the same service on the same PostgreSQL. Each number is measured in this run.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich import box
from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # as pytest's pythonpath
sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import bounds
import scenarios
from pairs import UPGRADE, Renderings, start_at_once
from sqlalchemy import URL

from safe_migrations.dev.cluster import throw_away_cluster
from safe_migrations.postgres.programs import find_programs
from support import Service, fetch

OURS, STOCK = "safe-migrations", "stock Alembic"
REPLICAS = 16
OPEN = 6.0  # seconds that a transaction stays open
ADD_COLUMN = 'op.add_column("item", sa.Column("note", sa.Text()))'
ROWS = 100_000
WIDTH = 100  # characters of a line, where there is no terminal

Sides = list[tuple[Service, URL]]

console = Console(highlight=False)


class Demo:
    """The services, and the table of what was measured."""

    def __init__(self, renderings: Renderings) -> None:
        self.renderings = renderings
        self.table = Table(box=box.SIMPLE)
        for header in ("", OURS, STOCK):
            self.table.add_column(header)

    def replicas(self, sides: Sides) -> None:
        """Let replicas all migrate an empty database as they start."""
        with step(f"{REPLICAS} replicas run alembic upgrade head at once"):
            succeeded = [f"{start_at_once(service, REPLICAS)[0]} of {REPLICAS}" for service, _ in sides]
        self.table.add_row(f"{REPLICAS} replicas at once: succeed", *succeeded)

    def open_transaction(self, sides: Sides) -> None:
        """Change a table that an open transaction has read, while a reader reads the table."""

        def longest_read(side: tuple[Service, URL]) -> float:
            return asyncio.run(bounds.longest_stall(*side, ["item"], OPEN, "SELECT id FROM item"))[0]

        for service, _ in sides:
            service.add_revision("add_a_note", ADD_COLUMN)
        with step(f"ADD COLUMN behind an open transaction of {OPEN:g} s"), ThreadPoolExecutor() as pool:
            reads = [f"{seconds:.2f} s" for seconds in pool.map(longest_read, sides)]
        self.table.add_row("ADD COLUMN: longest read", *reads)

    def kill(self, sides: Sides) -> None:
        """Kill an upgrade while it builds an index, and run the command again."""
        for (service, _), body in zip(sides, (scenarios.INDEX, scenarios.STOCK_INDEX), strict=True):
            service.add_revision("add_an_index", body)
        with step("SIGKILL in an index build, the command again"), ThreadPoolExecutor() as pool:
            endings = pool.map(lambda side: scenarios.killed_while_building(*side), sides)
        self.table.add_row("killed index build: repeated", *endings)

    def not_null(self, sides: Sides) -> None:
        """Add a NOT NULL column to a table that is written all the time."""
        for _, database in sides:
            fetch(database, scenarios.FILL, rows=ROWS)
        ours, stock = sides
        with step("NOT NULL column under traffic, in phases"):
            measured = [scenarios.not_null_in_phases(*ours)]
        with step("NOT NULL column under traffic, stock Alembic"):
            measured.append(scenarios.not_null_at_once(*stock))
        self.table.add_row("NOT NULL: longest write", *(f"{writes.longest:.2f} s" for writes in measured))
        self.table.add_row("NOT NULL: failed writes", *(str(writes.failed) for writes in measured))

    def sides(self, *upgrades: str) -> Sides:
        """A service of the template, and the same service with stock Alembic, each with an empty database."""
        return [(service, self.renderings.new_database(service)) for service in self.renderings.pair(*upgrades)]


def main() -> None:
    """Show what sets a service apart, in less than a minute."""
    begun = time.monotonic()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDTH
    with TemporaryDirectory(prefix="demo-") as folder, throw_away_cluster(find_programs(18)) as cluster:
        with step(f"copier copy: services for PostgreSQL {cluster.version()}"):
            demo = Demo(Renderings(cluster.url(), Path(folder)))
            many, few = demo.sides("many", bounds.SLOW), demo.sides("few")
            for service, _ in few:
                service.succeed(*UPGRADE)
        demo.replicas(many)
        demo.open_transaction(many)
        demo.kill(many)
        demo.not_null(few)
    console.print(demo.table)
    console.print(f"Measured in {time.monotonic() - begun:.0f} s.")


@contextmanager
def step(title: str) -> Iterator[None]:
    """Show the current step, with a spinner on a terminal, and how long it took."""
    begun = time.monotonic()
    with console.status(title):
        yield
    console.print(f"{title} ({time.monotonic() - begun:.1f} s)")


if __name__ == "__main__":
    main()
