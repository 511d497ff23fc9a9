"""Running a backfill: batches in the order of the key, a transaction each, by any number of workers.

A batch is planned as a range of keys, recorded in the database, and claimed with FOR UPDATE SKIP LOCKED. Its record
goes in the transaction that changes its rows: so a kill loses nothing and repeats nothing, and what it leaves is free
for others. Keyset pagination is described in https://use-the-index-luke.com/no-offset
"""

import asyncio
import itertools
import random
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, TextIO, TypeVar

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Row,
    Select,
    Text,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import array, dialect
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import UserDefinedType

from safe_migrations.apply import (
    DEADLOCK_DETECTED,
    INSUFFICIENT_PRIVILEGE,
    LOCK_NOT_AVAILABLE,
    LONGEST_PAUSE,
    QUERY_CANCELED,
    REPORT,
    SERIALIZATION_FAILURE,
)
from safe_migrations.backfills import COMMAND, SCHEMA, Backfill, is_complete, refuse_unwritten
from safe_migrations.connection import connected, explain, is_disconnect, reason, sqlstate
from safe_migrations.errors import MigrationError
from safe_migrations.lock import lock_key
from safe_migrations.policy import Policy, duration_text, load_policy

Result = TypeVar("Result")

RETRIED = (LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED, SERIALIZATION_FAILURE)
AHEAD = 50  # batches that are planned at once
PASSES = 5  # over the table, while others go on writing rows that match
COUNTED = 1_000_000  # rows; how many there are in a bigger table is estimated
POLL, WATCH, REDRAW = 0.1, 1.0, 0.1  # seconds: until others may have finished; between looks at standbys, and bars
BAR = 24  # characters
_RANDOM = random.SystemRandom()

_TABLES_EXIST = text("SELECT to_regclass('safe_migrations.backfill_batch')::text")
_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:key)")
_TABLES = (
    "CREATE SCHEMA IF NOT EXISTS safe_migrations",
    """
    CREATE TABLE IF NOT EXISTS safe_migrations.backfill (
        name text PRIMARY KEY,
        key text NOT NULL,
        position text[],
        passes integer NOT NULL DEFAULT 1,
        rows bigint NOT NULL DEFAULT 0,
        started_at timestamptz NOT NULL DEFAULT now(),
        planned_at timestamptz,
        finished_at timestamptz
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS safe_migrations.backfill_batch (
        name text REFERENCES safe_migrations.backfill ON DELETE CASCADE,
        id bigint GENERATED ALWAYS AS IDENTITY,
        after text[],
        last text[] NOT NULL,
        PRIMARY KEY (name, id)
    )
    """,
)
_BEGIN = text("INSERT INTO safe_migrations.backfill (name, key) VALUES (:name, :key) ON CONFLICT DO NOTHING")
_READ = text(
    "SELECT key, position, passes, rows, planned_at, finished_at FROM safe_migrations.backfill WHERE name = :name"
)
_BEGIN_AGAIN = text("""
    UPDATE safe_migrations.backfill
    SET key = :key, position = NULL, planned_at = NULL, finished_at = NULL, passes = passes + 1
    WHERE name = :name AND passes = :passes
""")
_PLAN = text("INSERT INTO safe_migrations.backfill_batch (name, after, last) VALUES (:name, :after, :last)")
_ADVANCE = text("""
    UPDATE safe_migrations.backfill
    SET position = :position, planned_at = CASE WHEN CAST(:all AS boolean) THEN clock_timestamp() END WHERE name = :name
""")
_FINISH = text("""
    UPDATE safe_migrations.backfill SET finished_at = clock_timestamp() WHERE name = :name RETURNING rows
""")
_UNFINISHED = text("SELECT EXISTS (SELECT FROM safe_migrations.backfill_batch WHERE name = :name)")
_CLAIM = text("""
    DELETE FROM safe_migrations.backfill_batch WHERE (name, id) = (
        SELECT name, id FROM safe_migrations.backfill_batch WHERE name = :name ORDER BY id LIMIT 1
        FOR UPDATE SKIP LOCKED
    )
    RETURNING after, last
""")
_COUNT = text("UPDATE safe_migrations.backfill SET rows = rows + :rows WHERE name = :name RETURNING rows")
_KEY = text("""
    SELECT array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY k.place) AS types, bool_and(a.attnotnull) AS filled,
      EXISTS (
        SELECT FROM pg_index x WHERE x.indrelid = to_regclass(:table) AND x.indisvalid AND x.indpred IS NULL
          AND (x.indkey::int2[])[0:cardinality(CAST(:key AS text[])) - 1] = array_agg(a.attnum ORDER BY k.place)
      ) AS indexed
    FROM unnest(CAST(:key AS text[])) WITH ORDINALITY AS k (name, place)
    LEFT JOIN pg_attribute a ON a.attrelid = to_regclass(:table) AND a.attname = k.name AND NOT a.attisdropped
""")
# As pg_dump sets them: what is written as text is read as the same value, whatever the database's settings are.
_EXACT = text("""
    SELECT set_config('DateStyle', 'ISO', true), set_config('IntervalStyle', 'postgres', true),
      set_config('extra_float_digits', '3', true)
""")
_ESTIMATE = text("SELECT reltuples FROM pg_class WHERE oid = to_regclass(:table)")
# Of those that replay; what this user may not see has no state.
_STANDBYS = text("""
    SELECT application_name AS name, state IS NULL AS hidden, extract(epoch FROM replay_lag)::float8 AS replay_lag,
      pg_wal_lsn_diff(replay_lsn, '0/0')::bigint AS replayed,
      pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint AS written
    FROM pg_stat_replication WHERE state IS NULL OR replay_lsn IS NOT NULL
""")


@dataclass(frozen=True)
class Pace:
    """How hard to work.

    Attributes:
        workers: connections that work at the same time.
        nice_ratio: how long each of them pauses after a batch, in times of what the batch took. As in gh-ost: on a
            busy server batches take longer, and so do the pauses, of which fixed ones would become a smaller part.
        max_lag: how far standbys may be behind before all of them wait, in seconds.
    """

    workers: int = 1
    nice_ratio: float = 1.0
    max_lag: float = 10.0


@dataclass(frozen=True)
class Done:
    """What a run of a backfill did.

    Attributes:
        name: the backfill's.
        already_complete: whether there was nothing to do.
        rows: that were changed since the backfill was begun, by all runs and processes.
        seconds: that this run took.
    """

    name: str
    already_complete: bool
    rows: int
    seconds: float

    def __str__(self) -> str:
        if self.already_complete:
            return f"{self.name} was complete already."
        return f"{self.name} is complete: {self.rows:,} rows, the last of them in {duration_text(self.seconds)}."


async def run_backfill(url: URL, env_prefix: str, folder: Path, name: str, backfill: Backfill, pace: Pace) -> Done:
    """Run a backfill to its end, from where it is.

    Args:
        url: the database.
        env_prefix: prefix of the service's environment variables, to name them in an error.
        folder: `alembic/backfills`.
        name: the backfill's.
        backfill: its definition.
        pace: how hard to work.

    Raises:
        MigrationError: it can't be run, or did not come to its end; what is committed stays.
    """
    begun = time.monotonic()
    progress = Progress(name, sys.stderr)
    try:
        async with connected(url, env_prefix) as control:
            run = _Run(name, backfill, pace, load_policy(), progress)
            if await run.retried(control, lambda connection: is_complete(connection, backfill, name)):
                return Done(name, True, 0, 0.0)
            refuse_unwritten(folder, name, backfill)
            await run.retried(control, run.begin)
            await _work(run, control, url, env_prefix)
    except BaseExceptionGroup as group:  # of the worker that failed first; it made the others stop
        raise _explained(group.exceptions[0], url, env_prefix) from group
    except (DBAPIError, ConnectionError, TimeoutError) as error:
        raise _explained(error, url, env_prefix) from error
    finally:
        progress.clear()
    return Done(name, False, progress.rows, round(time.monotonic() - begun, 3))


def _explained(error: BaseException, url: URL, env_prefix: str) -> BaseException:
    if isinstance(error, DBAPIError | ConnectionError | TimeoutError):
        return MigrationError(explain(error, url, env_prefix))
    return error


async def _work(run: "_Run", control: AsyncConnection, url: URL, env_prefix: str) -> None:
    async def work() -> None:
        async with connected(url, env_prefix) as connection:
            await run.work(connection)

    async with asyncio.TaskGroup() as group:
        watcher = group.create_task(run.watch(control))
        await asyncio.gather(*(group.create_task(work()) for _ in range(run.pace.workers)))
        run.done.set()
        await watcher  # not cancelled: a query that is cut off costs the connection


class _Run:
    """A run of one backfill in this process."""

    def __init__(self, name: str, backfill: Backfill, pace: Pace, policy: Policy, progress: "Progress") -> None:
        self.pace = pace
        self.done = asyncio.Event()
        self._name = name
        self._backfill = backfill
        self._policy = policy
        self._progress = progress
        self._free = asyncio.Event()  # whether standbys keep up
        self._lag = Lag()
        preparer = dialect().identifier_preparer  # type: ignore[no-untyped-call]  # SQLAlchemy has left it so
        self._table = preparer.format_table(backfill.table)
        self._key = f"{self._table} ({', '.join(backfill.key)})"
        self._types: list[str] = []
        self._first_pass = 0
        self._told = False

    def begin(self, connection: Connection) -> None:
        """Make sure that the backfill can run, and record that it has begun; several processes may do so at once."""
        self._types = self._read_types(connection)
        if connection.scalar(_TABLES_EXIST) is None:
            connection.execute(_LOCK, {"key": lock_key(SCHEMA, "backfill", "tables")})
            for statement in _TABLES:
                connection.execute(text(statement))
        connection.execute(_BEGIN, {"name": self._name, "key": self._key})
        record = self._read(connection)
        if record.finished_at is not None:
            self._begin_again(connection, record)
        elif record.key != self._key:
            raise MigrationError(
                f"The backfill {self._name} has begun on {record.key}, and its file now says {self._key}: nothing was "
                "changed. Give what has changed a file with another name."
            )
        self._first_pass = record.passes
        self._progress.begin(record.rows, self._remaining(connection, record.rows))

    async def work(self, connection: AsyncConnection) -> None:
        """Do batch after batch, until all workers of all processes have come to the end."""
        while True:
            await self._free.wait()
            begun = time.monotonic()
            step = await self.retried(connection, self._step)
            if step is _Step.FINISHED:
                return
            await asyncio.sleep(POLL if step is _Step.WAIT else (time.monotonic() - begun) * self.pace.nice_ratio)

    async def watch(self, connection: AsyncConnection) -> None:
        """Let the workers wait while a standby is too far behind, and show the progress."""
        while not self.done.is_set():
            standby, seconds = await self.retried(connection, self._lag.measure)
            if self._lag.hidden and not self._told:
                self._told = True
                self._progress.say(
                    "How far standbys are behind is hidden from this user, so that --max-lag has no effect: grant it "
                    "pg_monitor."
                )
            if seconds <= self.pace.max_lag:
                self._free.set()
            else:
                self._free.clear()
            late = f"; waits, because the standby {standby} is {duration_text(seconds)} behind"
            self._progress.show("" if self._free.is_set() else late)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.done.wait(), WATCH)

    async def retried(self, connection: AsyncConnection, function: Callable[[Connection], Result]) -> Result:
        """Call a function in a transaction, again and again while it does not get its locks, as revisions are applied.

        Args:
            connection: not in a transaction.
            function: may run any number of times, because each time but the last is rolled back.

        Raises:
            MigrationError: it failed, or did not get its locks within the bounds of the policy.
        """
        until = time.monotonic() + self._policy.retry_window
        for number in itertools.count(1):
            try:
                async with connection.begin():
                    return await connection.run_sync(function)
            except SQLAlchemyError as error:
                if is_disconnect(error):
                    raise
                left = until - time.monotonic()
                if sqlstate(error) not in RETRIED or left <= 0:
                    raise MigrationError(self._failure(error)) from error
                longest = min(self._policy.lock_timeout * 2 ** min(number, 10), LONGEST_PAUSE, left)
                self._progress.show(f"; waits for a lock (try {number})")
                await asyncio.sleep(longest * _RANDOM.uniform(0.5, 1))
        raise AssertionError

    def _step(self, connection: Connection) -> "_Step":
        batch = connection.execute(_CLAIM, {"name": self._name}).first()
        if batch is None:
            return self._plan(connection)
        changed = connection.execute(
            update(self._backfill.table)
            .where(self._after(batch.after), self._up_to(batch.last), self._where())
            .values(dict(self._backfill.values))
        )
        # Last, because all workers write this row.
        rows = connection.scalar(_COUNT, {"name": self._name, "rows": changed.rowcount})
        self._progress.add(rows or 0)
        return _Step.WORKED

    def _plan(self, connection: Connection) -> "_Step":
        """Plan the next batches, one worker at a time; at the end, see whether it is the end."""
        if not connection.scalar(_TRY_LOCK, {"key": lock_key(SCHEMA, "backfill", self._name)}):
            return _Step.WAIT
        record = self._read(connection)
        if record.finished_at is not None:
            self._progress.add(record.rows)
            return _Step.FINISHED
        if record.planned_at is None:
            position = record.position
            for last in self._next_keys(connection, position):
                connection.execute(_PLAN, {"name": self._name, "after": position, "last": last})
                position = last
            connection.execute(_ADVANCE, {"name": self._name, "position": position, "all": position == record.position})
            return _Step.WORKED
        if connection.scalar(_UNFINISHED, {"name": self._name}):
            return _Step.WAIT
        if self._backfill.where is None or is_complete(connection, self._backfill, self._name):
            self._progress.add(connection.scalar(_FINISH, {"name": self._name}) or 0)
            return _Step.FINISHED
        if record.passes - self._first_pass >= PASSES:
            raise MigrationError(
                f"The backfill {self._name} has gone over the table {PASSES} times, and there are still rows that "
                "match: the code that runs goes on writing them, or the values leave them as they match. See to that, "
                f"then run {COMMAND} {self._name} again."
            )
        self._begin_again(connection, record)
        return _Step.WORKED

    def _read(self, connection: Connection) -> Row[Any]:
        return connection.execute(_READ, {"name": self._name}).one()

    def _begin_again(self, connection: Connection, record: Row[Any]) -> None:
        connection.execute(_BEGIN_AGAIN, {"name": self._name, "key": self._key, "passes": record.passes})

    def _next_keys(self, connection: Connection, position: Sequence[str] | None) -> Sequence[Sequence[str]]:
        """The last key of each of the next batches, as text."""
        connection.execute(_EXACT)
        size = self._backfill.batch_size
        rows = select(*self._columns()).where(self._after(position), self._where()).order_by(*self._columns())
        next_rows = rows.limit(size * AHEAD).subquery()
        columns = [next_rows.c[name] for name in self._backfill.key]
        numbered = select(
            array([cast(column, Text()) for column in columns]).label("last"),
            func.row_number().over(order_by=columns).label("number"),
            func.count().over().label("rows"),
        ).subquery()
        is_last = or_(numbered.c.number % size == 0, numbered.c.number == numbered.c.rows)
        return connection.scalars(select(numbered.c.last).where(is_last).order_by(numbered.c.number)).all()

    def _columns(self) -> list[ColumnElement[Any]]:
        return [self._backfill.table.c[name] for name in self._backfill.key]

    def _after(self, key: Sequence[str] | None) -> ColumnElement[bool]:
        return true() if key is None else tuple_(*self._columns()) > self._literal(key)

    def _up_to(self, key: Sequence[str]) -> ColumnElement[bool]:
        return tuple_(*self._columns()) <= self._literal(key)

    def _literal(self, key: Sequence[str]) -> ColumnElement[Any]:
        typed = zip(key, self._types, strict=True)
        return tuple_(*(cast(literal(each, Text()), _TypeOfKey(name)) for each, name in typed))

    def _where(self) -> ColumnElement[bool]:
        return true() if self._backfill.where is None else self._backfill.where

    def _read_types(self, connection: Connection) -> list[str]:
        key = self._backfill.key
        found = connection.execute(_KEY, {"table": self._table, "key": list(key)}).one()
        if found.filled and found.indexed:
            return list(found.types)
        raise MigrationError(
            f"The backfill {self._name} can't go through {self._table} in the order of {', '.join(key)}: this takes "
            "columns that are NOT NULL, or rows would be left out, and come first in an index, or each batch would "
            f"read the whole table. Name others as key in alembic/backfills/{self._name}.py."
        )

    def _remaining(self, connection: Connection, done: int) -> int | None:
        """About how many rows are left; None where only a long look at the table would tell."""
        estimate = int(connection.scalar(_ESTIMATE, {"table": self._table}) or 0)
        if estimate > COUNTED:
            return max(estimate - done, 0)
        rows: Select[Any] = select(literal_column("1")).select_from(self._backfill.table).where(self._where())
        counted = connection.scalar(select(func.count()).select_from(rows.limit(COUNTED + 1).subquery())) or 0
        if counted > COUNTED:
            return None
        return counted if self._backfill.where is not None else max(counted - done, 0)

    def _failure(self, error: SQLAlchemyError) -> str:
        file, state = f"alembic/backfills/{self._name}.py", sqlstate(error)
        if state in RETRIED:
            what = f"did not get its locks within MIGRATION_RETRY_WINDOW ({duration_text(self._policy.retry_window)})"
            advice = "See who is in the way: python -m safe_migrations locks"
        else:
            what = f"failed: {reason(error)}"
            advice = {
                INSUFFICIENT_PRIVILEGE: "Grant the user what it needs",
                QUERY_CANCELED: f"Make batch_size in {file} smaller, or raise MIGRATION_STATEMENT_TIMEOUT",
            }.get(state or "", f"Correct {file}, or the rows that it is about")
        return (
            f"The backfill {self._name} {what}. What it was doing is rolled back, and the batches before stay. "
            f"{advice}; then run {COMMAND} {self._name} again: it goes on there."
        )


class _Step(Enum):
    """What a worker has done in a transaction."""

    WORKED = auto()
    WAIT = auto()  # for others
    FINISHED = auto()


class _TypeOfKey(UserDefinedType[Any]):
    """A type by the name that PostgreSQL has for it."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        """The name."""
        return self.name


class Lag:
    """How far standbys are behind.

    `replay_lag` in pg_stat_replication stays as it was when a standby stops to replay. So what was written at which
    time is noted here, as pt-heartbeat does in a table.

    Attributes:
        hidden: whether there are standbys of which this user may see nothing.
    """

    def __init__(self) -> None:
        self.hidden = False
        self._written: deque[tuple[float, int]] = deque()  # what not all standbys have replayed yet, with the time
        self._begun: int | None = None  # what was written when the notes begin

    def measure(self, connection: Connection) -> tuple[str, float]:
        """The standby that is furthest behind, and by how many seconds; 0 if there is none.

        Args:
            connection: to the primary.
        """
        rows = connection.execute(_STANDBYS).all()
        self.hidden = any(row.hidden for row in rows)
        standbys = [row for row in rows if not row.hidden]
        if not standbys:
            return "", 0.0
        slowest = min(standbys, key=lambda row: row.replayed)
        now = time.monotonic()
        self._begun = slowest.written if self._begun is None else self._begun
        self._written.append((now, slowest.written))
        while self._written and self._written[0][1] <= slowest.replayed:
            self._written.popleft()
        behind = now - self._written[0][0] if self._written else 0.0
        # Of the time before, only PostgreSQL knows.
        return slowest.name, behind if slowest.replayed >= self._begun else max(behind, slowest.replay_lag or 0.0)


class Progress:
    """A bar on a terminal, else a line now and then; on standard error."""

    def __init__(self, name: str, stream: TextIO) -> None:
        """Show nothing yet.

        Args:
            name: the backfill's.
            stream: where to show it.
        """
        self.rows = 0
        self._name = name
        self._stream = stream
        self._terminal = stream.isatty()
        self._first_rows = 0
        self._total: int | None = None
        self._begun = self._shown = time.monotonic()

    def begin(self, rows: int, remaining: int | None) -> None:
        """Begin, or go on.

        Args:
            rows: that are done already.
            remaining: about how many are not; None where that isn't known.
        """
        self.rows = self._first_rows = rows
        self._total = None if remaining is None else rows + remaining

    def add(self, rows: int) -> None:
        """Rows are done.

        Args:
            rows: all of them until now, by all processes.
        """
        self.rows = max(self.rows, rows)
        self.show()

    def show(self, note: str = "") -> None:
        """Show how far it is, unless that was shown just now.

        Args:
            note: what it waits for.
        """
        now = time.monotonic()
        if now - self._shown < (REDRAW if self._terminal else REPORT):
            return
        self._shown = now
        line = self.line(now - self._begun) + note
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r{line[:width]:{width}}")
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def line(self, elapsed: float) -> str:
        """How far it is, in a line.

        Args:
            elapsed: seconds since the beginning.
        """
        rate = (self.rows - self._first_rows) / elapsed if elapsed else 0.0
        done = f"{self.rows:,}"
        bar = left = ""
        if self._total:
            total = max(self._total, self.rows)
            filled = self.rows * BAR // total
            bar = f" [{'#' * filled}{'-' * (BAR - filled)}] {self.rows * 100 // total} %"
            done = f"{done} of about {total:,}"
            left = f", {duration_text((total - self.rows) / rate)} left" if rate else ""
        return f"{self._name}{bar} {done} rows, {rate:,.0f} rows/s{left}"

    def say(self, text: str) -> None:
        """Say something beside the bar.

        Args:
            text: what.
        """
        self.clear()
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Take the bar away."""
        if self._terminal:
            self._stream.write("\r\033[K")
            self._stream.flush()
