"""The page on commands and locks says what PostgreSQL does with tables in use, and what lint says.

Each row of docs/locks.md has a command. It runs on a real PostgreSQL, in a transaction that is rolled back.
"""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import asyncpg  # type: ignore[import-untyped]
import pytest
from sqlalchemy import URL

from revision_files import Versions, written
from safe_migrations.postgres.lock_modes import MODES
from support import ROOT, as_text

BLOCKING = MODES[MODES.index("ShareLock") :]  # writers, or readers too, wait
STYLE = {"raw-sql-without-reason", "unrelated-changes", "several-tables", "schema-and-data", "empty-downgrade"}
ROLE = "app_of_the_test"
SCHEMA = Path(__file__).with_name("locks_page.sql").read_text()
# What the running code does; after a command that breaks the code, an answer differs.
CODE = [
    "SELECT max(id) || max(sku) || max(name) || max(price) || max(mood) FROM item WHERE id = 1001",
    "INSERT INTO item (sku, name) VALUES ('new', 'a') RETURNING mood || name",
    "INSERT INTO item (id, name) VALUES (1001, 'a') ON CONFLICT (id) DO UPDATE SET price = 3 RETURNING price",
    "INSERT INTO item (sku, name) VALUES ('sku 1002', 'a') ON CONFLICT (sku) DO NOTHING RETURNING sku",
    "INSERT INTO orders (item_id) VALUES (1001) RETURNING item_id",
    "INSERT INTO orders (item_id) VALUES (7) RETURNING item_id",
    "INSERT INTO item (name) VALUES (NULL) RETURNING name",
    "INSERT INTO orders (n) VALUES (NULL) RETURNING n",
    "UPDATE item SET total = 3 WHERE id = 1003 RETURNING name",
    "UPDATE item SET price = 0 WHERE id = 1003 RETURNING price",
    "UPDATE item SET price = 7, amount = 3 WHERE id = 1004 RETURNING price",
    "DELETE FROM item WHERE id = 1005 RETURNING id",
    "SELECT max(id) FROM v",
    "SELECT max(id) FROM m",
    "SELECT nextval('numbers') > 1000",
    "SELECT own()",
    "SELECT max(id) FROM part",
]
_KINDS = "SELECT oid, relkind FROM pg_class WHERE relkind IN ('r', 'p', 'm') AND oid >= 16384"
_LOCKS = "SELECT relation, mode FROM pg_locks WHERE locktype = 'relation' AND pid = $1 AND granted = $2"
_FILES = "SELECT oid, pg_relation_filenode(oid) FROM pg_class WHERE relkind IN ('r', 'm', 'i') AND oid < $1"
_SCANS = "SELECT sum(seq_scan) FROM pg_stat_xact_user_tables WHERE relid < $1"  # not of this transaction alone


@dataclass(frozen=True)
class Measured:
    """What a command does to tables in use."""

    lock: str
    reads: bool
    rewrites: bool
    breaks: bool

    @property
    def hurts(self) -> bool:
        """Whether the running code waits for longer than a moment, or fails."""
        return self.breaks or (self.lock in BLOCKING and (self.reads or self.rewrites))

    def row(self, command: str, rules: list[str]) -> str:
        """The row of the page."""
        lock = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.lock.removesuffix("Lock")).upper() or "none"
        work = "rewrites" if self.rewrites else "reads" if self.reads else ""
        names = ", ".join(f"[{rule}](rules.md#{rule})" for rule in rules)
        return f"| `{command}` | {lock} | {work} | {'breaks' if self.breaks else ''} | {names} |"


def rows() -> dict[str, str]:
    """The rows of the page, by command."""
    page = ROOT.joinpath("docs", "locks.md").read_text()
    return {match[1]: match[0] for match in re.finditer(r"^\| `(.*?)` \|.*$", page, re.MULTILINE)}


class Server:
    """Measures commands on one database."""

    def __init__(self, role: str, connections: list[asyncpg.Connection]) -> None:
        self.role = role
        self.own, self.other, self.control = connections
        self.new = 0  # the first oid of what a command creates

    async def prepare(self) -> None:
        """Create what the commands are about, and ask what the running code gets."""
        await self.own.execute(SCHEMA.replace(ROLE, self.role))
        self.new = await self.own.fetchval("SELECT max(oid)::bigint + 1 FROM pg_class")
        self.kinds = dict(await self.own.fetch(_KINDS))
        await self.own.execute("BEGIN")
        self.answers = await self.code()

    async def code(self) -> list[str]:
        """What the running code gets, with the rights of its role; the transaction is then undone."""
        try:
            await self.own.execute(f"SET LOCAL ROLE {self.role}")
            return list(await self.own.fetchval("SELECT code_of_the_service($1)", CODE))
        finally:
            await self.own.execute("ROLLBACK")

    async def fails(self) -> bool:
        """Whether the running code gets another answer; what was an error before is none of its answers."""
        return any(
            then != now and not then.startswith("error ")
            for then, now in zip(self.answers, await self.code(), strict=True)
        )

    async def lock(self, of: asyncpg.Connection, *, granted: bool) -> str:
        """The strongest lock that the command holds or waits for, without what readers of a table or a view take."""
        weak = {b"r": "AccessShareLock", b"p": "AccessShareLock", b"m": "ExclusiveLock"}
        locks = await of.fetch(_LOCKS, self.own.get_server_pid(), granted)
        kinds = [(self.kinds[relation], mode) for relation, mode in locks if relation in self.kinds]
        strong = [mode for kind, mode in kinds if MODES.index(mode) > MODES.index(weak[kind])]
        return max(strong, key=MODES.index, default="")

    async def measure(self, command: str) -> Measured:
        """What a command does; where no transaction can be around it, the lock that it asks for first."""
        await self.own.execute("BEGIN")
        try:
            files, scans = await self.own.fetch(_FILES, self.new), await self.own.fetchval(_SCANS, self.new)
            await self.own.execute(command)
        except asyncpg.ActiveSQLTransactionError:
            await self.own.execute("ROLLBACK")
            return await self.measure_outside(command)
        lock = await self.lock(self.own, granted=True)
        reads = await self.own.fetchval(_SCANS, self.new) > scans
        after = dict(await self.own.fetch(_FILES, self.new))
        rewrites = _rewritten(files, after)
        return Measured(lock, reads, rewrites, await self.fails())

    async def measure_outside(self, command: str) -> Measured:
        """The same of a command that can't run in a transaction."""
        files = await self.control.fetch(_FILES, self.new)
        await self.other.execute("BEGIN; LOCK item, days IN EXCLUSIVE MODE")
        lock = ""
        work = asyncio.create_task(self.own.execute(command))
        async with asyncio.timeout(10):
            while not work.done():
                if lock := await self.lock(self.control, granted=False):
                    break
                await asyncio.sleep(0.001)
        await self.other.execute("ROLLBACK")
        await work
        await self.own.execute("BEGIN")
        after = dict(await self.control.fetch(_FILES, self.new))
        return Measured(lock, False, _rewritten(files, after), await self.fails())


def _rewritten(files: list[asyncpg.Record], after: dict[int, int]) -> bool:
    return any(oid in after and file != after[oid] for oid, file in files)


@pytest.fixture(scope="module")
def measured(server: URL) -> Iterator[dict[str, Measured]]:
    """All commands of the page, measured one after the other."""
    name = f"locks_{uuid4().hex}"

    async def run() -> dict[str, Measured]:
        administrator = await asyncpg.connect(as_text(server))
        await administrator.execute(f"CREATE DATABASE {name}")
        connections = [await asyncpg.connect(as_text(server.set(database=name))) for _ in range(3)]
        try:
            database = Server(name, connections)
            await database.prepare()
            return {command: await database.measure(command.replace(ROLE, name)) for command in rows()}
        finally:
            for connection in connections:
                await connection.close()
            await administrator.execute(f"DROP DATABASE {name}")
            await administrator.execute(f"DROP ROLE IF EXISTS {name}")
            await administrator.close()

    with asyncio.Runner() as runner:
        yield runner.run(run())


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The rules of lint that each command of the page breaks, in an expand revision."""
    versions = Versions(tmp_path_factory.mktemp("history"))
    commands = {}
    versions.add("0002", written('op.execute("CREATE DOMAIN amount AS int CHECK (VALUE >= 0)")', "pass"))
    for number, command in enumerate(rows(), 3):
        body = f"# why\nop.execute({command!r})"
        commands[versions.add(f"{number:04d}", written(body, "pass", phase="expand"))] = command
    broken: dict[str, set[str]] = {command: set() for command in commands.values()}
    for finding in versions.lint("0002:"):
        if finding.rule.name not in STYLE:
            broken[commands[finding.path]].add(finding.rule.name)
    return {command: sorted(names) for command, names in broken.items()}


def test_page_says_what_commands_do(measured: dict[str, Measured], rules: dict[str, list[str]]) -> None:
    assert [command for command in rows() if measured[command].hurts and not rules[command]] == []
    assert [*rows().values()] == [measured[command].row(command, rules[command]) for command in rows()]
