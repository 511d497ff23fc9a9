"""What a revision does to the tables, observed while it runs: locks, scans, rewrites, and dropped objects.

The revision's session reads its own locks before it releases them. No other session locks a table meanwhile, or keeps
a snapshot for longer than a query: NOWAIT would fail, and a revision that retries until it gets its lock would not end.

See https://www.postgresql.org/docs/current/view-pg-locks.html; a table whose file changes was
rewritten, and a scan of a whole table counts as a sequential scan, also in DDL.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Connection, ExceptionContext, Row, event
from sqlalchemy.ext.asyncio import AsyncConnection

from safe_migrations.ddl.steps import current_step
from safe_migrations.postgres.catalog import mask
from safe_migrations.postgres.connection import session_pid
from safe_migrations.postgres.lock_modes import MODES
from safe_migrations.postgres.sql import read_sql
from safe_migrations.postgres.statements import split
from safe_migrations.trace.lock_times import LockTimes, TracedStep
from safe_migrations.trace.schema_changes import Schema

INTERVAL = 0.005  # seconds between two samples
_BLOCK_WRITES = MODES[MODES.index("ShareLock") :]
_CONCURRENTLY = "ShareUpdateExclusiveLock"  # on the table of an index
# Outside a transaction these statements begin one, do nothing, or fail.
_CONTROLS_TRANSACTION = re.compile(
    r"(?:BEGIN|START|SET|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE|PREPARE|LOCK|DECLARE)\b", re.IGNORECASE
)
_NEEDS_NO_TRANSACTION = ("25001", "2D000")  # of statements that can't run in a transaction, or that end it

_SQL = read_sql(__package__, "recorder.sql")


@dataclass(frozen=True)
class Scan:
    """A table that was scanned while a lock was held.

    Attributes:
        table: the scanned table.
        locked: the locked table, most often the same.
        mode: the strongest lock on it.
        statement: the statement that scanned, without literals.
        step: in which it stands; None in a revision without steps.
    """

    table: str
    locked: str
    mode: str
    statement: str
    step: str | None = None


@dataclass
class Trace:
    """What one revision did to the tables that existed before it, by their names before it.

    Attributes:
        locks: the lock modes on each table, from the weakest.
        steps: in order; a revision without steps is one.
        together: the tables on which one transaction blocked writes, with the strongest mode of each.
        step_together: the step of that transaction.
        scans: the scans while such a lock was held.
        rewritten: the rewritten tables.
        broken: changes that break the running code, such as `drops the column item.name`.
        joined: pairs of tables that are always locked together: their foreign key was created or dropped, or one is a
            partition or a child of the other.
        ended_itself: whether the revision has ended its transaction by a statement such as COMMIT.
    """

    locks: dict[str, list[str]] = field(default_factory=dict)
    steps: list[TracedStep] = field(default_factory=list)
    together: dict[str, str] = field(default_factory=dict)
    step_together: str | None = None
    scans: list[Scan] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    joined: list[tuple[str, str]] = field(default_factory=list)
    ended_itself: bool = False


class _Tracer:
    """Records what a session does: on the session after each statement, and from another session while it runs."""

    def __init__(self, pid: int, before: Schema) -> None:
        self.trace = Trace()
        self._pid = pid
        self._before = before
        self._oids = list(before.tables)
        self._rows: dict[int, Row[Any]] = {}  # the scans and the file of each table
        self._step_begun = 0.0
        self._times = LockTimes()
        self._has_committed = False
        self._begun: Any = None  # when the transaction began
        self._is_alone = False  # whether the statement that runs has a transaction made for it
        self.running = asyncio.Event()  # set while a statement of the revision runs

    def listeners(self, connection: Connection) -> list[tuple[Any, str, Callable[..., Any]]]:
        """SQLAlchemy's events to listen to, each with its target."""
        return [
            (connection, "before_cursor_execute", self._note_begin),
            (connection, "after_cursor_execute", self._note_statement),
            (connection.engine, "handle_error", self._note_error),
            (connection, "commit", self._note_commit),
            (connection, "rollback", self._note_rollback),
            (connection.engine, "do_execute", self._execute),
            (connection.engine, "do_executemany", self._execute_many),
        ]

    def note_locks(self, watcher: Connection) -> None:
        """Record the locks that the session holds now, from another session."""
        for row in watcher.execute(_SQL["locks"], {"pid": self._pid, "oids": self._oids}):
            self._note_lock(row.oid, row.mode)

    def _note_lock(self, oid: int, mode: str) -> str:
        name: str = self._before.tables[oid].name
        for locks in (self.trace.locks, *(step.locks for step in self.trace.steps[-1:])):
            locks[name] = sorted({*locks.get(name, []), mode}, key=MODES.index)
        return name

    def _note_step(self, connection: Connection) -> None:
        """Note the begin of a step before its first statement, and how long it has taken until now."""
        name, steps = current_step(connection), self.trace.steps
        if not steps or name not in (None, steps[-1].name):  # the last step ends with the revision
            steps.append(TracedStep(name))
            self._step_begun = self._times.now()
        steps[-1].seconds = round(self._times.now() - self._step_begun, 3)

    def _note_begin(
        self, connection: Connection, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: bool
    ) -> None:
        """Note the transaction, before its first statement can end it."""
        if _is_own(context):
            return
        with self._times.not_counted():
            if not (self._begun or _is_autocommit(connection)):
                self._begun = connection.scalar(_SQL["begun"])
        self._note_step(connection)
        self._times.begin_statement()
        self.running.set()

    def _note_commit(self, connection: Connection) -> None:
        with self._times.not_counted():
            if self._begun:
                self.trace.ended_itself |= connection.scalar(_SQL["begun"]) != self._begun
            self._begun = None
        self._times.release(self.trace.steps)
        self._has_committed = True
        self._note_step(connection)

    def _note_rollback(self, _connection: Connection) -> None:
        self._begun = None
        self._times.release(self.trace.steps)
        if not self._has_committed:  # what was read before the revision
            self.trace.steps = []

    def _note_statement(
        self, connection: Connection, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: bool
    ) -> None:
        """Record the effects of a statement, on the session itself: other sessions see them after its end."""
        if _is_own(context):
            return
        self.running.clear()
        with self._times.not_counted():
            scanned, rewritten, held = self.read_tables(connection)
        for name, mode in held.items():
            self._times.hold(name, mode)
        strong = {name: mode for name, mode in held.items() if mode in _BLOCK_WRITES}
        traced = self.trace.steps[-1]
        traced.scanned = sorted({*traced.scanned, *scanned})
        traced.rewritten = sorted({*traced.rewritten, *rewritten})
        step = current_step(connection)
        if len(strong) > len(self.trace.together):
            self.trace.together, self.trace.step_together = strong, step
        for table in scanned:
            for locked in [table] if table in strong else strong:
                self.trace.scans.append(Scan(table, locked, strong[locked], mask(statement), step))
        if self._is_alone:
            self._is_alone = False
            _control(connection, "COMMIT")
            self._times.release(self.trace.steps)

    def _note_error(self, _context: ExceptionContext) -> None:
        self.running.clear()

    def _execute(self, cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        return self._run_alone(partial(cursor.execute, statement, parameters), statement, context)

    def _execute_many(self, cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        return self._run_alone(partial(cursor.executemany, statement, parameters), statement, context)

    def _run_alone(self, execute: Callable[[], Any], statement: str, context: Any) -> bool:
        """Run a statement of AUTOCOMMIT in a transaction, which keeps its locks until they are recorded.

        Returns whether the statement was run here.
        """
        connection = context.root_connection
        if _is_own(context) or not _is_autocommit(connection) or _is_in_transaction(connection):
            return False
        if any(_CONTROLS_TRANSACTION.match(plain) for _, plain in split(statement)):
            return False
        _control(connection, "BEGIN")
        try:
            execute()
            self._is_alone = True
        except Exception as error:
            _control(connection, "ROLLBACK")
            if getattr(error, "sqlstate", None) not in _NEEDS_NO_TRANSACTION:
                raise
            before = self._indexes(connection)
            execute()
            for _, oid in before ^ self._indexes(connection):
                self._times.hold(self._note_lock(oid, _CONCURRENTLY), _CONCURRENTLY)
            self._times.release(self.trace.steps)
        return True

    def _indexes(self, connection: Connection) -> set[tuple[int, ...]]:
        return {tuple(row) for row in connection.execute(_SQL["indexes"], {"oids": self._oids})}

    def read_tables(self, connection: Connection) -> tuple[list[str], list[str], dict[str, str]]:
        """The tables that the session has scanned since the last call, those that it has rewritten, and its locks.

        The locks that it holds now are recorded; of each table's, the strongest is returned.
        """
        before, rows = self._rows, connection.execute(_SQL["session"], {"oids": self._oids}).all()
        self._rows = {row.oid: row for row in rows}
        held = {}
        for row in rows:
            for mode in sorted(row.modes or (), key=MODES.index):
                held[self._note_lock(row.oid, mode)] = mode
        both = [(before[row.oid], row, self._before.tables[row.oid]) for row in rows if row.oid in before]
        scanned = [table.name for old, new, table in both if new.scans > old.scans]
        rewritten = [table.name for old, new, table in both if table.kind == "r" and new.file not in (old.file, None)]
        return scanned, rewritten, held

    def compare(self, after: Schema) -> None:
        """Compare the schema before and after."""
        trace, before = self.trace, self._before
        trace.steps = [step for step in trace.steps if step.name] or trace.steps
        rewritten = before.rewritten(after)
        trace.rewritten = sorted(row.name for row in rewritten)
        for row in rewritten:
            self._note_lock(row.oid, MODES[-1])
        trace.broken = sorted(before.broken(after))
        trace.joined = before.joined(after)


def _is_own(context: Any) -> bool:
    """Whether a statement is one of this module."""
    return any(context.invoked_statement is own for own in _SQL.values())


def _is_autocommit(connection: Connection) -> bool:
    return connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"


def _is_in_transaction(connection: Connection) -> bool:
    """Whether the server is in a transaction, which SQLAlchemy may not have begun."""
    driver_connection: Any = connection.connection.driver_connection
    return bool(driver_connection.is_in_transaction())


def _control(connection: Connection, statement: str) -> None:
    cursor = connection.connection.cursor()
    cursor.execute(statement)
    cursor.close()


@asynccontextmanager
async def tracing(connection: AsyncConnection, watcher: AsyncConnection, version_table: str) -> AsyncIterator[Trace]:
    """Record what the connection does: after each statement, and by sampling.

    Args:
        watcher: another connection to the database, in AUTOCOMMIT.
        version_table: where Alembic records the revision, which is not traced.
    """
    pid = await session_pid(connection)
    before = await watcher.run_sync(Schema.read, version_table)
    tracer, finished = _Tracer(pid, before), asyncio.Event()
    await connection.run_sync(tracer.read_tables)
    await connection.rollback()
    listeners = await connection.run_sync(tracer.listeners)
    for listener in listeners:
        event.listen(*listener)
    sampling = asyncio.create_task(_sample(tracer, watcher, finished))
    try:
        yield tracer.trace
    finally:
        for listener in listeners:
            event.remove(*listener)
        finished.set()
        tracer.running.set()
        await sampling
    tracer.compare(await watcher.run_sync(Schema.read, version_table))


async def _sample(tracer: _Tracer, watcher: AsyncConnection, finished: asyncio.Event) -> None:
    """Record the locks of statements that release them at their end: what can't run in a transaction, or fails."""
    while await tracer.running.wait() and not finished.is_set():
        await asyncio.sleep(INTERVAL)
        if tracer.running.is_set():
            await watcher.run_sync(tracer.note_locks)
