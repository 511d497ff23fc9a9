"""What a revision really does to the tables, seen while it runs: locks, scans, rewrites, and what is gone afterwards.

See https://www.postgresql.org/docs/current/view-pg-locks.html; a table whose file changes was written anew, and what
reads a table from its first row to the last counts as a sequential scan, also in DDL.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, event, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from safe_migrations.postgres.catalog import mask
from safe_migrations.postgres.connection import Database, connected
from safe_migrations.postgres.sql import ddl

INTERVAL = 0.002  # seconds between two looks
MODES = (  # from the weakest
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)
_STOP_WRITERS = MODES[MODES.index("ShareLock") :]

# Also those that it waits for, because it will have them.
_LOCKS = text("""
    SELECT relation::bigint AS oid, mode FROM pg_locks
    WHERE pid = :pid AND relation = ANY(CAST(:oids AS oid[])) AND locktype = 'relation'
""")
# What the session has counted and not reported yet, and what it has reported.
_SCANS = text("""
    SELECT oid::bigint, pg_stat_get_numscans(oid) + pg_stat_get_xact_numscans(oid) AS scans
    FROM unnest(CAST(:oids AS oid[])) AS oid
""")
_HELD_UP = text("SELECT pg_backend_pid() = ANY(pg_blocking_pids(:pid))")
# Alembic's table and those of the backfills hold no data of the service.
_TABLES = text("""
    SELECT c.oid::bigint AS oid, c.oid::regclass::text AS name, c.relkind::text AS kind,
      pg_relation_filenode(c.oid) AS file
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname !~ '^pg_' AND c.relname <> :version_table
      AND n.nspname NOT IN ('information_schema', 'safe_migrations')
""")
_COLUMNS = text("""
    SELECT attrelid::bigint AS oid, attnum AS number, quote_ident(attname) AS name, attnotnull AS required,
      atthasdef OR attidentity <> '' AS filled
    FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped AND attrelid = ANY(CAST(:oids AS oid[]))
""")
_FOREIGN_KEYS = text("SELECT oid::bigint, conrelid::bigint, confrelid::bigint FROM pg_constraint WHERE contype = 'f'")
_CHILDREN = text("SELECT inhrelid::bigint, inhparent::bigint FROM pg_inherits")  # also of indexes


@dataclass(frozen=True)
class Scan:
    """A table that was read as a whole while a lock was held.

    Attributes:
        table: the one that was read.
        locked: the one with the lock, most often the same.
        mode: the strongest one on it.
        statement: which read it, without literals.
    """

    table: str
    locked: str
    mode: str
    statement: str


@dataclass
class Trace:
    """What one revision did to the tables that existed before it, by their names before it.

    Attributes:
        locks: the modes of locks for each table, from the weakest.
        together: the tables that one transaction kept from writers, or more, with the strongest mode of each.
        scans: the tables that were read as a whole meanwhile.
        rewritten: the tables that were written anew.
        broken: what code may miss that runs already, such as `drops the column item.name`.
        joined: pairs of tables that can't be had apart, of which one may be new: their foreign key was made or dropped,
            or one is a partition or a child of the other.
    """

    locks: dict[str, list[str]] = field(default_factory=dict)
    together: dict[str, str] = field(default_factory=dict)
    scans: list[Scan] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    joined: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Schema:
    """The tables of a database at one time, by their oids, which survive a new name."""

    tables: dict[int, Row[Any]]
    columns: dict[tuple[int, int], Row[Any]]
    foreign_keys: set[tuple[int, ...]]
    children: set[tuple[int, ...]]

    @classmethod
    def read(cls, connection: Connection, version_table: str) -> "_Schema":
        rows = connection.execute(_TABLES, {"version_table": version_table})
        tables = {row.oid: row for row in rows}
        columns = connection.execute(_COLUMNS, {"oids": list(tables)})
        return cls(
            tables,
            {(row.oid, row.number): row for row in columns},
            {tuple(row) for row in connection.execute(_FOREIGN_KEYS)},
            {tuple(row) for row in connection.execute(_CHILDREN)},
        )


class _Tracer:
    """Notes what a session does, on itself after each statement, and from outside all along."""

    def __init__(self, pid: int, before: _Schema) -> None:
        self.trace = Trace()
        self._pid = pid
        self._before = before
        self._oids = list(before.tables)
        self._scans: dict[int, int] = {}

    def note_locks(self, connection: Connection) -> dict[str, str]:
        """Note the locks that the session holds now.

        Args:
            connection: any one to its database.

        Returns:
            The strongest mode for each table.
        """
        held: dict[str, str] = {}
        for row in connection.execute(_LOCKS, {"pid": self._pid, "oids": self._oids}):
            name = self._before.tables[row.oid].name
            modes = {*self.trace.locks.get(name, []), row.mode}
            self.trace.locks[name] = sorted(modes, key=MODES.index)
            held[name] = max(held.get(name, row.mode), row.mode, key=MODES.index)
        return held

    def note_statement(
        self, connection: Connection, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: bool
    ) -> None:
        """Note what a statement of the session has done, on the session itself: nobody else can tell before it ends."""
        if any(context.invoked_statement is own for own in (_SCANS, _LOCKS)):
            return
        scanned = self.count_scans(connection)
        strong = {name: mode for name, mode in self.note_locks(connection).items() if mode in _STOP_WRITERS}
        self.trace.together = max(self.trace.together, strong, key=len)
        for table in scanned:
            for locked in [table] if table in strong else strong:
                self.trace.scans.append(Scan(table, locked, strong[locked], mask(statement)))

    def count_scans(self, connection: Connection) -> list[str]:
        """The tables that the session has read as a whole since the last call."""
        counts = {row.oid: row.scans for row in connection.execute(_SCANS, {"oids": self._oids})}
        scanned = [self._before.tables[oid].name for oid in self._oids if counts[oid] > self._scans.get(oid, 0)]
        self._scans = counts
        return scanned

    def compare(self, after: _Schema) -> None:
        """Note what the session has left behind."""
        before = self._before
        both = before.tables.keys() & after.tables.keys()
        changed = [before.tables[oid] for oid in both if before.tables[oid].file != after.tables[oid].file]
        self.trace.rewritten = sorted(row.name for row in changed if row.kind == "r")
        self.trace.broken = sorted([*_broken_tables(before, after), *_broken_columns(before, after)])
        names = {oid: row.name for oid, row in (after.tables | before.tables).items()}
        pairs = {key[1:] for key in before.foreign_keys ^ after.foreign_keys} | before.children | after.children
        self.trace.joined = sorted((names[one], names[other]) for one, other in pairs if {one, other} <= names.keys())


@asynccontextmanager
async def tracing(connection: AsyncConnection, database: Database) -> AsyncIterator[Trace]:
    """Note what the connection does: after each statement, and all along for what runs outside a transaction.

    Args:
        connection: the one that runs a revision.
        database: for one more connection.
    """
    pid = int(await connection.scalar(select(func.pg_backend_pid())) or 0)
    await connection.rollback()
    async with connected(database, isolation_level="REPEATABLE READ") as sampler:
        before = await sampler.run_sync(_Schema.read, database.service.version_table)
        tracer, done = _Tracer(pid, before), asyncio.Event()
        await connection.run_sync(tracer.count_scans)
        await connection.rollback()
        tables = [row.name for row in before.tables.values() if row.kind != "m"]
        if tables:
            await sampler.execute(ddl("LOCK TABLE %(names)s IN ACCESS SHARE MODE", names=", ".join(tables)))
        event.listen(connection.sync_connection, "after_cursor_execute", tracer.note_statement)
        sampling = asyncio.create_task(_sample(tracer, sampler, pid, done))
        try:
            yield tracer.trace
        finally:
            event.remove(connection.sync_connection, "after_cursor_execute", tracer.note_statement)
            done.set()
            await sampling
        await sampler.rollback()
        tracer.compare(await sampler.run_sync(_Schema.read, database.service.version_table))


async def _sample(tracer: _Tracer, sampler: AsyncConnection, pid: int, done: asyncio.Event) -> None:
    """Note the locks of what runs outside a transaction, which are gone with the statement.

    This session keeps a snapshot, and looks at all tables: a concurrent build waits for the one, a drop for the
    other. Once somebody waits, the locks are noted, and this session lets go.
    """
    while not done.is_set():
        held_up = await sampler.scalar(_HELD_UP, {"pid": pid})
        await sampler.run_sync(tracer.note_locks)
        if held_up:
            await sampler.rollback()
        with suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), INTERVAL)


def _broken_tables(before: _Schema, after: _Schema) -> Iterator[str]:
    for oid, table in before.tables.items():
        now = after.tables.get(oid)
        if now is None:
            yield f"drops the table {table.name}"
        elif now.name != table.name:
            yield f"renames the table {table.name} to {now.name}"


def _broken_columns(before: _Schema, after: _Schema) -> Iterator[str]:
    for place, old in before.columns.items():
        name, new = f"{before.tables[old.oid].name}.{old.name}", after.columns.get(place)
        if new is None:
            if old.oid in after.tables:
                yield f"drops the column {name}"
            continue
        if new.name != old.name:
            yield f"renames the column {name} to {new.name}"
        if new.required and not old.required:
            yield f"makes the column {name} NOT NULL"
        if old.filled and not new.filled:
            yield f"drops the default of the column {name}"
    for place, new in after.columns.items():
        if place not in before.columns and new.oid in before.tables and new.required and not new.filled:
            yield f"adds the column {before.tables[new.oid].name}.{new.name}, NOT NULL without a default"
