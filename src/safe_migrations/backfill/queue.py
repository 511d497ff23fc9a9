"""The batches of a backfill: ranges of keys, recorded in the database.

A batch is claimed with FOR UPDATE SKIP LOCKED, and its record goes in the transaction that changes its rows: so a kill
loses nothing and repeats nothing, and what it leaves is free for others. Keyset pagination is described in
https://use-the-index-luke.com/no-offset
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import array

from safe_migrations.backfill.definition import COMMAND, SCHEMA, Backfill, is_complete
from safe_migrations.errors import MigrationError
from safe_migrations.postgres.advisory_lock import lock_key

Step = Literal["worked", "wait", "finished"]  # what a worker has done; it waits for other workers

AHEAD = 50  # batches that are planned at once
PASSES = 5  # over the table, while others go on writing rows that match
COUNTED = 1_000_000  # rows; how many there are in a bigger table is estimated

# Not to_regclass, which may still say what it found before the lock was free.
_TABLES_EXIST = text("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'safe_migrations')")
_TABLES = text("""
    CREATE SCHEMA safe_migrations
    CREATE TABLE backfill (
        name text PRIMARY KEY,
        key text NOT NULL,
        position text[],
        planned boolean NOT NULL DEFAULT false,
        rows bigint NOT NULL DEFAULT 0,
        finished_at timestamptz
    )
    CREATE TABLE backfill_batch (
        name text REFERENCES backfill ON DELETE CASCADE,
        id bigint GENERATED ALWAYS AS IDENTITY,
        after text[],
        last text[] NOT NULL,
        PRIMARY KEY (name, id)
    )
""")
_BEGIN = text("""
    INSERT INTO safe_migrations.backfill AS known (name, key) VALUES (:name, :key)
    ON CONFLICT (name) DO UPDATE SET key = :key, position = NULL, planned = false, finished_at = NULL
    WHERE known.finished_at IS NOT NULL AND :again
""")
_READ = text("""
    SELECT *, EXISTS (SELECT FROM safe_migrations.backfill_batch WHERE name = :name) AS unfinished
    FROM safe_migrations.backfill WHERE name = :name
""")
_PLAN = text("INSERT INTO safe_migrations.backfill_batch (name, after, last) VALUES (:name, :after, :last)")
_ADVANCE = text("UPDATE safe_migrations.backfill SET position = :position, planned = :planned WHERE name = :name")
_FINISH = text("UPDATE safe_migrations.backfill SET finished_at = clock_timestamp() WHERE name = :name")
_CLAIM = text("""
    DELETE FROM safe_migrations.backfill_batch WHERE (name, id) = (
        SELECT name, id FROM safe_migrations.backfill_batch WHERE name = :name ORDER BY id LIMIT 1
        FOR UPDATE SKIP LOCKED
    )
    RETURNING after, last
""")
_COUNT = text("UPDATE safe_migrations.backfill SET rows = rows + :rows WHERE name = :name RETURNING rows")
_KEY = text("""
    SELECT array_agg(format_type(atttypid, atttypmod) ORDER BY place) AS types, bool_and(attnotnull) AND EXISTS (
        SELECT FROM pg_index WHERE indrelid = to_regclass(:table) AND indisvalid AND indpred IS NULL
          AND (indkey::int2[])[0:cardinality(CAST(:key AS text[])) - 1] = array_agg(attnum ORDER BY place)
      ) AS usable
    FROM unnest(CAST(:key AS text[])) WITH ORDINALITY AS key (name, place)
    JOIN pg_attribute ON attrelid = to_regclass(:table) AND attname = name AND NOT attisdropped
""")
# As pg_dump sets them: what is written as text is read as the same value, whatever the database's settings are.
_EXACT = text("""
    SELECT set_config('DateStyle', 'ISO', true), set_config('IntervalStyle', 'postgres', true),
      set_config('extra_float_digits', '3', true)
""")
_ESTIMATE = text("SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass(:table)")


@dataclass
class Batches:
    """The batches of one backfill, which any number of workers and processes share.

    What takes a connection is a transaction, and may be done again after a rollback.

    Attributes:
        name: the backfill's.
        backfill: its definition.
        rows: how many were changed since it was begun, by all runs and processes.
    """

    name: str
    backfill: Backfill
    rows: int = 0
    _table: str = ""
    _types: list[str] = field(default_factory=list)
    _passes: int = 0

    def begin(self, connection: Connection) -> int:
        """Record that the backfill has begun, if it can run; several processes may do so at once.

        Args:
            connection: to the database.

        Returns:
            About how many rows it has, with those that are done; 0 where only a long look would tell.

        Raises:
            MigrationError: its key can't be used, or it is another one than that of the earlier runs.
        """
        self._table = connection.dialect.identifier_preparer.format_table(self.backfill.table)
        names = ", ".join(self.backfill.key)
        found = connection.execute(_KEY, {"table": self._table, "key": list(self.backfill.key)}).one()
        if not found.usable:
            raise MigrationError(
                f"The backfill {self.name} can't go through {self._table} in the order of {names}: this takes "
                "columns that are NOT NULL, or rows would be left out, and come first in an index, or each batch would "
                f"read the whole table. Name others as key in alembic/backfills/{self.name}.py."
            )
        self._types = found.types
        left = self._count(connection)
        self._record(connection, f"{self._table} ({names})")
        return left + self.rows if self.backfill.where is not None and 0 < left <= COUNTED else left

    def step(self, connection: Connection) -> Step:
        """Do a batch; if there is none to claim, plan the next ones.

        Args:
            connection: a worker's.

        Raises:
            MigrationError: rows still match after some passes.
        """
        batch = connection.execute(_CLAIM, {"name": self.name}).first()
        if batch is None:
            return self._plan(connection)
        rows = self._key <= self._value(batch.last), self._after(batch.after), self.backfill.matching
        update = sa.update(self.backfill.table).where(*rows).values(dict(self.backfill.values))
        still = connection.scalars(update.returning(self.backfill.matching)).all()
        if self.backfill.where is not None and any(still):
            raise MigrationError(
                f"The values of the backfill {self.name} leave rows as its where matches them, so that it would never "
                f"end: nothing of this batch was changed. Correct alembic/backfills/{self.name}.py, then run {COMMAND} "
                f"{self.name} again."
            )
        # Last, because all workers write this row.
        self.rows = connection.scalar(_COUNT, {"name": self.name, "rows": len(still)}) or 0
        return "worked"

    def _record(self, connection: Connection, key: str) -> None:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock_key(SCHEMA, "backfill", "tables"))))
        if not connection.scalar(_TABLES_EXIST):
            connection.execute(_TABLES)
        # Without where, one that another process has just finished is not begun again.
        connection.execute(_BEGIN, {"name": self.name, "key": key, "again": self.backfill.where is not None})
        if (begun := self._read(connection).key) != key:
            raise MigrationError(
                f"The backfill {self.name} has begun on {begun}, and its file now says {key}: nothing was changed. "
                "Give what has changed a file with another name."
            )

    def _count(self, connection: Connection) -> int:
        some = sa.select(self._key).where(self.backfill.matching).limit(COUNTED + 1).subquery()
        counted = connection.scalar(sa.select(sa.func.count()).select_from(some)) or 0
        return counted if counted <= COUNTED else connection.scalar(_ESTIMATE, {"table": self._table}) or 0

    def _plan(self, connection: Connection) -> Step:
        """Plan the next batches, one worker at a time; at the end, see whether it is the end."""
        if not connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(lock_key(SCHEMA, "backfill", self.name)))):
            return "wait"
        record = self._read(connection)
        if record.finished_at is not None:
            return "finished"
        if record.planned and record.unfinished:
            return "wait"
        if record.planned and (self.backfill.where is None or is_complete(connection, self.backfill, self.name)):
            connection.execute(_FINISH, {"name": self.name})
            return "finished"
        if record.planned:
            self._refuse_for_ever()
        self._plan_after(connection, None if record.planned else record.position)
        return "worked"

    def _refuse_for_ever(self) -> None:
        self._passes += 1
        if self._passes >= PASSES:
            raise MigrationError(
                f"The backfill {self.name} has gone over the table {PASSES} times, and there are still rows that "
                "match: the code that runs goes on writing them. See to that, "
                f"then run {COMMAND} {self.name} again."
            )

    def _plan_after(self, connection: Connection, position: Sequence[str] | None) -> None:
        connection.execute(_EXACT)
        for _ in range(AHEAD):
            last = self._last_key(connection, position)
            if last is None:
                break
            connection.execute(_PLAN, {"name": self.name, "after": position, "last": last})
            position = last
        connection.execute(_ADVANCE, {"name": self.name, "position": position, "planned": last is None})

    def _last_key(self, connection: Connection, position: Sequence[str] | None) -> Sequence[str] | None:
        """Of the next batch, as text."""
        columns = [self.backfill.table.c[name] for name in self.backfill.key]
        rows = sa.select(*columns).where(self._after(position), self.backfill.matching).order_by(*columns)
        batch = rows.limit(self.backfill.batch_size).subquery().c
        key: sa.ColumnElement[Any] = array([sa.cast(column, sa.Text()) for column in batch])
        return connection.scalar(sa.select(key).order_by(*(column.desc() for column in batch)).limit(1))

    @property
    def _key(self) -> sa.ColumnElement[Any]:
        return sa.tuple_(*(self.backfill.table.c[name] for name in self.backfill.key))

    def _value(self, key: Sequence[str]) -> sa.ColumnElement[Any]:
        typed = zip(key, self._types, strict=True)
        return sa.tuple_(*(sa.literal(each, sa.Text()).op("::")(sa.literal_column(name)) for each, name in typed))

    def _after(self, key: Sequence[str] | None) -> sa.ColumnElement[bool]:
        return sa.true() if key is None else self._key > self._value(key)

    def _read(self, connection: Connection) -> sa.Row[Any]:
        record = connection.execute(_READ, {"name": self.name}).one()
        self.rows = record.rows
        return record
