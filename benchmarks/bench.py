"""`pdm run bench`: what the safety of a rendered service costs beside stock Alembic, and what it is worth.

Both are the same rendering with the same revisions and settings; stock has the env.py of `alembic init -t async`. They
take turns on one embedded PostgreSQL, so that what else the machine does meets both alike. Nothing is asserted: the
goals stand beside the numbers. PostgreSQL runs without fsync, where a commit costs next to nothing.
"""

import asyncio
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich import box
from rich.console import Console
from rich.table import Table
from sqlalchemy import URL

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # as pytest's pythonpath

import backfills
import bounds
import commands
import fleets
import scenarios
from pairs import UPGRADE, Pair, Renderings, start_at_once
from times import Times, progress

from blocking_statement import GATE
from releases import VERSIONS, Releases, commit, git
from safe_migrations.dev.cluster import Cluster, throw_away_cluster
from safe_migrations.postgres.programs import find_programs
from safe_migrations.postgres.timeouts import load_timeouts
from support import Service, fetch, tables

CURRENT = ("alembic", "current")
QUICK = ("safe-migrations", "state", "--quick")
STATE, CHECK = ("safe-migrations", "state"), ("alembic", "check")
LINT, PREVIEW = ("safe-migrations", "lint"), ("safe-migrations", "preview")
REVISION = ("alembic", "revision", "--autogenerate", "-m", "change")

COPIER_UPDATE = ("copier", "update", "--defaults", "--skip-answered", "--quiet")
# `safe-migrations template-update`, without the checks that follow. -P: a service of 1.x has a package of that name.
TEMPLATE_UPDATE = (
    "python",
    "-P",
    "-c",
    "from pathlib import Path; from safe_migrations.template import releases, update; "
    "update.update(Path.cwd(), releases.read_news(Path.cwd()))",
)

NO_OP_ROUNDS = 15
COMMAND_ROUNDS = 7
STARTERS = 16
STARTER_ROUNDS = 3
ROWS = 1_000_000
IDLE = 15.0  # seconds that a transaction stays idle while it holds a lock on the table
UPDATE_ROUNDS = 3
BACKFILL_ROUNDS = 3
FLEET_ROUNDS = 3
PROCESSES = (1, 2, 4)
SERVICES = 10
HISTORIES = {10: (7, 9), 100: (7, 9), 1000: (3, 7)}  # revisions: rounds of the full upgrade, and of the no-op

NO_OP_GOAL = "at most 1.15 x"
QUICK_GOAL = "at most 0.33 x"
STALL_GOAL = f"at most {load_timeouts({}).lock_timeout * 1.1:.1f} s"

ADD_TABLE = """
op.create_table("table_{number}", sa.Column("id", sa.BigInteger(), primary_key=True), sa.Column("amount", sa.Integer()))
"""
ADD_TO_ENTRY = 'op.add_column("entry", sa.Column("note", sa.Text()))'
ADD_TO_FIVE = 'for number in range(5):\n    op.add_column(f"other_{number}", sa.Column("note", sa.Text()))'
ADD_COLUMN = 'op.add_column("item", sa.Column("note", sa.Text(), nullable=True))'


class Bench(Renderings):
    """The renderings, their databases, and the table of what was measured."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        super().__init__(cluster.url(), folder)
        self.table = Table("", box=box.SIMPLE, title=f"Medians on PostgreSQL {cluster.version()}", title_justify="left")
        for header in ("ours", "stock", "ours / stock", "goal"):
            self.table.add_column(header, justify="right", no_wrap=True)

    def row(self, title: str, times: Times, goal: str = "-") -> None:
        """Add what was timed to the table."""
        self.table.add_row(title, *times.cells(), goal)

    def no_ops(self) -> None:
        """Commands that find the database at head."""
        pair = self.pair("no_op")
        upgrade, current, quick = Times(), Times(), Times()
        for service in pair:
            service.succeed(*UPGRADE)
        for _ in range(NO_OP_ROUNDS):
            upgrade.add("no-op upgrade", *(timed(service, *UPGRADE) for service in pair))
            current.add("current", *(timed(service, *CURRENT) for service in pair))
            quick.add("state --quick", timed(pair.ours, *QUICK), current.stock[-1])
        self.row("alembic upgrade head, nothing to do", upgrade, NO_OP_GOAL)
        self.row("alembic current", current, NO_OP_GOAL)
        self.row("state --quick, beside stock's current", quick, QUICK_GOAL)

    def commands(self) -> None:
        """Commands of a developer, each beside the command of stock Alembic that reads the same."""
        pair = self.pair("commands")
        commands.use_stock_settings(pair.stock)
        for service in pair:
            service.succeed(*UPGRADE)
        self.compare(pair, "state, beside stock's current", STATE, CURRENT)
        self.compare(pair, "lint, beside stock's current", LINT, CURRENT)
        self.compare(pair, "preview, beside stock's check", PREVIEW, CHECK)
        for service in pair:
            commands.add_table(service)
        self.compare(pair, "revision of a new table", REVISION, REVISION)

    def compare(self, pair: Pair, title: str, ours: Sequence[str], stock: Sequence[str]) -> None:
        """Time a command of ours and one of stock Alembic."""
        wall, processor = Times(), Times()
        for _ in range(COMMAND_ROUNDS):
            wall_ours, processor_ours = commands.seconds_in_copy(pair.ours, *ours)
            wall_stock, processor_stock = commands.seconds_in_copy(pair.stock, *stock)
            wall.add(title, wall_ours, wall_stock)
            processor.add(f"{title}: processor", processor_ours, processor_stock)
        self.row(title, wall, NO_OP_GOAL)
        self.row(f"{title}: processor", processor, NO_OP_GOAL)

    def starters(self) -> None:
        """Replicas that all migrate an empty database as they start; one revision takes a second."""
        pair = self.pair("starters", bounds.SLOW)
        expected = self.schema_of_one(pair.stock)
        times = Times()
        succeeded: list[list[int]] = [[], []]
        complete = [0, 0]
        for _ in range(STARTER_ROUNDS):
            seconds = []
            for index, service in enumerate(pair):
                database = self.new_database(service)
                successes, wall = start_at_once(service, STARTERS)
                succeeded[index].append(successes)
                complete[index] += schema(database) == expected
                seconds.append(wall)
            times.add(f"{STARTERS} starters, {succeeded[0][-1]} and {succeeded[1][-1]} succeed", *seconds)
        title = f"{STARTERS} at once on an empty database"
        self.row(f"{title}: wall time", times)
        medians = (f"{median(numbers):g} of {STARTERS}" for numbers in succeeded)
        self.table.add_row(f"{title}: succeed", *medians, "", f"{STARTERS} of {STARTERS}")
        completions = (f"{number} of {STARTER_ROUNDS}" for number in complete)
        self.table.add_row(f"{title}: schema complete", *completions, "", "always")

    def schema_of_one(self, service: Service) -> tuple[set[str], list[str]]:
        """What a single starter makes of an empty database."""
        database = self.new_database(service)
        service.succeed(*UPGRADE)
        return schema(database)

    def stalls(self) -> None:
        """Readers of what a revision changes while idle transactions hold a lock on it."""
        partitions, others = ([f"{kind}_{number}" for number in range(10)] for kind in ("entry", "other"))
        cases = (
            (f"ADD COLUMN behind {IDLE:g} s of idle transaction", ADD_COLUMN, ["item"], IDLE, "SELECT id FROM item"),
            ("ADD COLUMN, ten partitions in use", ADD_TO_ENTRY, partitions, 0.8, "SELECT id FROM entry"),
            ("ADD COLUMN to five tables in use", ADD_TO_FIVE, others[:5], 0.8, "SELECT id FROM other_0"),
        )
        for title, body, holders, seconds, read in cases:
            stalls, upgrades = Times(), Times()
            measured = []
            for service in self.pair(f"stall_{len(holders)}", bounds.TABLES, body):
                database = self.new_database(service)
                service.succeed("alembic", "upgrade", "+2")
                measured.append(asyncio.run(bounds.longest_stall(service, database, holders, seconds, read)))
            stalls.add(f"{title}: longest read", *(stall for stall, _ in measured))
            upgrades.add(f"{title}: upgrade", *(whole for _, whole in measured))
            self.row(f"{title}: longest read", stalls, STALL_GOAL)
            self.row(f"{title}: upgrade", upgrades)

    def not_null(self) -> None:
        """Writers of a table that gets a NOT NULL column."""
        functions = (scenarios.not_null_in_phases, scenarios.not_null_at_once)
        measured = []
        for service, function in zip(self.pair("not_null"), functions, strict=True):
            database = self.new_database(service)
            service.succeed(*UPGRADE)
            fetch(database, scenarios.FILL, rows=ROWS)
            measured.append(function(service, database))
        title = f"a NOT NULL column for {ROWS:,} rows"
        times = Times()
        times.add(f"{title}: longest write", *(writes.longest for writes in measured))
        self.row(f"{title}: longest write", times, STALL_GOAL)
        self.table.add_row(f"{title}: failed writes", *(str(writes.failed) for writes in measured), "", "0")

    def kills(self) -> None:
        """Upgrades that are killed while they build an index, and repeated."""
        endings = []
        for service, body in zip(self.pair("kills"), (scenarios.INDEX, scenarios.STOCK_INDEX), strict=True):
            database = self.new_database(service)
            service.succeed(*UPGRADE)
            service.add_revision("add_an_index", body)
            endings.append(scenarios.killed_while_building(service, database))
        self.table.add_row("killed in an index build, then repeated", *endings, "", "at head")

    def silence(self) -> None:
        """A server process that stops while it runs a statement whose timeout is 2 s."""
        times = Times()
        measured = []
        for service in self.pair("silence", bounds.TABLES, GATE):
            database = self.new_database(service)
            service.succeed("alembic", "upgrade", "+2")
            measured.append(bounds.seconds_until_given_up(service, database))
        title = "a silent server process is given up after"
        times.add(title, *measured)
        ours, stock, ratio = times.cells()
        if measured[1] >= bounds.LONGEST:
            stock, ratio = f"not in {bounds.LONGEST:g} s", ""
        self.table.add_row(title, ours, stock, ratio, "-")

    def connections(self) -> None:
        """Connections of replicas that all start at once, while one of them migrates."""
        numbers = []
        for service in self.pair("connections", bounds.SLOW):
            database = self.new_database(service)
            with bounds.count_connections(database) as counted:
                start_at_once(service, STARTERS)
            numbers.append(max(counted))
        progress(f"connections of {STARTERS} starters: ours {numbers[0]}, stock {numbers[1]}")
        self.table.add_row(f"{STARTERS} at once: most connections", *map(str, numbers), "", "-")

    def many_tables(self) -> None:
        """A database with 10,000 tables that no model has."""
        measured = []
        for service, command in zip(self.pair("many_tables"), (STATE, CHECK), strict=True):
            database = self.new_database(service)
            service.succeed(*UPGRADE)
            fetch(database, bounds.MANY_TABLES)
            measured.append(bounds.seconds_and_memory(service, *command))
        title = "state at 10,000 other tables, beside stock's check"
        times = Times()
        times.add(title, *(seconds for seconds, _ in measured))
        self.row(title, times)
        self.table.add_row(f"{title}: memory", *(f"{megabytes:.0f} MB" for _, megabytes in measured), "", "-")

    def histories(self) -> None:
        """Upgrades along histories of several lengths."""
        for length, (full_rounds, no_op_rounds) in HISTORIES.items():
            pair = self.pair(f"history_{length}", *(ADD_TABLE.format(number=number) for number in range(2, length + 1)))
            full, no_op = Times(), Times()
            for _ in range(full_rounds):
                for service in pair:
                    self.new_database(service)
                full.add(f"{length} revisions", *(timed(service, *UPGRADE) for service in pair))
            for _ in range(no_op_rounds):
                no_op.add(f"no-op of {length} revisions", *(timed(service, *UPGRADE) for service in pair))
            self.row(f"{length:,} revisions, from an empty database", full)
            self.row(f"{length:,} revisions, nothing to do", no_op, NO_OP_GOAL)

    def backfills(self) -> None:
        """A backfill in several processes, as on several machines. Stock Alembic has no backfill."""
        service = self.pair("backfills").ours
        database = self.new_database(service)
        backfills.write_backfill(service)
        rates: dict[int, list[float]] = {processes: [] for processes in PROCESSES}
        for _ in range(BACKFILL_ROUNDS):
            for processes in PROCESSES:
                rates[processes].append(backfills.rows_per_second(service, database, processes))
                progress(f"backfill in {processes} processes: {rates[processes][-1]:,.0f} rows/s")
        for processes in PROCESSES:
            ratio = median(rate / one for rate, one in zip(rates[processes], rates[1], strict=True))
            title = f"backfill of {backfills.ROWS:,} rows, {processes} at once"
            self.table.add_row(title, f"{median(rates[processes]):,.0f} rows/s, {ratio:.1f} x 1", "none", "", "-")

    def fleet(self) -> None:
        """The status of many services at once. Stock Alembic has no such command."""
        fleet = fleets.make_fleet(self)
        measured = [fleets.seconds_of_status(fleet) for _ in range(FLEET_ROUNDS)]
        seconds, processor = (median(values) for values in zip(*measured, strict=True))
        title = f"fleet status of {fleets.SERVICES} services"
        self.table.add_row(title, f"{seconds:.1f} s", "none", "", "at most 10 s")
        self.table.add_row(f"{title}: processor", f"{processor:.1f} s", "none", "", "-")

    def updates(self) -> None:
        """The next release, brought into a service and into ten of a monorepo; stock is `copier update` alone."""
        root = self.folder / "monorepo"
        services = monorepo(Releases(self.folder), root)
        for title, some, goal in (
            ("an update of a service", services[:1], "at most 5 s"),
            (f"an update of {SERVICES}, two at a time", services, "at most 20 s"),
        ):
            times = Times()
            for _ in range(UPDATE_ROUNDS):
                times.add(title, *(at_a_time(2, some, command, root) for command in (TEMPLATE_UPDATE, COPIER_UPDATE)))
            self.row(title, times, goal)


def main() -> None:
    """Measure everything, and print the table."""
    begun = time.perf_counter()
    with TemporaryDirectory(prefix="bench-") as folder, throw_away_cluster(find_programs(18, exactly=True)) as cluster:
        bench = Bench(cluster, Path(folder))
        bounded = (bench.stalls, bench.not_null, bench.kills, bench.silence, bench.connections, bench.many_tables)
        for measure in (
            bench.no_ops,
            bench.commands,
            bench.starters,
            *bounded,
            bench.backfills,
            bench.fleet,
            bench.histories,
            bench.updates,
        ):
            with section(measure):
                measure()
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120  # a pipe has no width, and 80 would fold the rows
    console.print(bench.table)
    console.print(f"Measured in {time.perf_counter() - begun:.0f} s.")


@contextmanager
def section(measure: Callable[[], None]) -> Iterator[None]:
    """Say what is measured, and how long it took."""
    begun = time.perf_counter()
    progress(str(measure.__doc__))
    yield
    progress(f"… in {time.perf_counter() - begun:.0f} s")


def timed(service: Service, *command: str) -> float:
    """How long a command takes that must succeed, in seconds."""
    begun = time.perf_counter()
    service.succeed(*command)
    return time.perf_counter() - begun


def monorepo(releases: Releases, root: Path) -> list[Service]:
    """Services of the newest release, committed."""
    services = []
    for number in range(SERVICES):
        service = releases.service(root / "services" / f"orders_{number}", VERSIONS[-1], layout="monorepo")
        shutil.rmtree(service.folder / ".git")
        services.append(service)
    git(root, "init", "--quiet")
    commit(root)
    return services


def at_a_time(number: int, services: Sequence[Service], command: Sequence[str], root: Path) -> float:
    """Run a command in each service, so many side by side; how long all takes, in seconds. Then undo it."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(number) as pool:
        list(pool.map(lambda service: service.succeed(*command), services))
    seconds = time.perf_counter() - begun
    git(root, "checkout", "--quiet", "HEAD", ".")
    git(root, "clean", "-fdq", ".")
    return seconds


def schema(database: URL) -> tuple[set[str], list[str]]:
    """The tables of a database and its revisions."""
    names = tables(database)
    revisions = fetch(database, "SELECT version_num FROM alembic_version") if "alembic_version" in names else []
    return names, [row.version_num for row in revisions]


if __name__ == "__main__":
    main()
