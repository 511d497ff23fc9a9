"""The batches of a backfill: ranges of keys, recorded in the database.

A batch is claimed with FOR UPDATE SKIP LOCKED, and its record is deleted in the transaction that changes its rows: a
killed worker loses nothing and repeats nothing, and another worker claims its batch. For keyset pagination see
https://use-the-index-luke.com/no-offset
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import array

from safe_migrations.backfill.definition import Backfill, backfill_command, is_complete
from safe_migrations.errors import BackfillError
from safe_migrations.postgres.advisory_lock import lock_key
from safe_migrations.postgres.catalog import count_up_to
from safe_migrations.postgres.own_tables import SCHEMA, create_own_tables, has_table
from safe_migrations.postgres.sql import read_sql

Step = Literal["worked", "wait", "finished"]  # what a worker has done; "wait" is for other workers

AHEAD = 50  # batches that are planned at once
PASSES = 5  # over the table, while the application keeps writing rows that match
COUNTED = 1_000_000  # rows; beyond them, the number is estimated

_SQL = read_sql(__package__, "queue.sql")


def rows_left(connection: Connection, backfill: Backfill) -> int:
    """About how many rows match; beyond some number, the size of the table."""
    rows = sa.select(sa.literal(1)).select_from(backfill.table).where(backfill.matching)
    counted = count_up_to(connection, rows, COUNTED)
    table = connection.dialect.identifier_preparer.format_table(backfill.table)
    return counted if counted <= COUNTED else connection.scalar(_SQL["estimate"], {"table": table}) or 0


def percent(connection: Connection, name: str, backfill: Backfill) -> int:
    """How much of an incomplete backfill is done; this counts the rows that are left."""
    rows = 0
    if has_table(connection, "backfill"):
        rows = connection.scalar(_SQL["rows"], {"name": name}) or 0
    if not rows:
        return 0
    left = rows_left(connection, backfill)
    total = left + rows if backfill.where is not None else left
    return min(99, rows * 100 // max(total, 1))


@dataclass
class Batches:
    """The batches of one backfill, which any number of workers and processes share.

    A method that takes a connection is one transaction, and can be repeated after a rollback.

    Attributes:
        name: the backfill's.
        backfill: its definition.
        file: which has the definition, for messages.
        rows: how many were changed since the backfill began, by all runs and processes.
    """

    name: str
    backfill: Backfill
    file: str
    rows: int = 0
    _table: str = ""
    _types: list[str] = field(default_factory=list)
    _passes: int = 0

    def begin(self, connection: Connection) -> int:
        """Record that the backfill has begun; several processes may do so at once.

        Returns:
            About how many rows the backfill has, including the changed ones; 0 if counting took too long.

        Raises:
            BackfillError: its key can't be used, or differs from the key of earlier runs.
        """
        self._table = connection.dialect.identifier_preparer.format_table(self.backfill.table)
        names = ", ".join(self.backfill.key)
        key = connection.execute(_SQL["key"], {"table": self._table, "key": list(self.backfill.key)}).one()
        if not key.usable:
            raise BackfillError(
                f"The backfill {self.name} can't read {self._table} in the order of {names}. The columns of a key must "
                "be NOT NULL; otherwise rows would be skipped. They must come first in an index; otherwise each batch "
                f"would read the whole table. Correct the key in {self.file}."
            )
        self._types = key.types
        left = rows_left(connection, self.backfill)
        self._record(connection, f"{self._table} ({names})")
        return left + self.rows if self.backfill.where is not None and 0 < left <= COUNTED else left

    def step(self, connection: Connection) -> Step:
        """Do a batch; if there is none to claim, plan the next ones.

        Raises:
            BackfillError: the values leave rows that match, or rows still match after some passes.
        """
        batch = connection.execute(_SQL["claim"], {"name": self.name}).first()
        if batch is None:
            return self._plan(connection)
        rows = self._key <= self._value(batch.last), self._after(batch.after), self.backfill.matching
        update = sa.update(self.backfill.table).where(*rows).values(dict(self.backfill.values))
        still_matching = connection.scalars(update.returning(self.backfill.matching)).all()
        if self.backfill.where is not None and any(still_matching):
            raise BackfillError(
                f"The backfill {self.name} would never end: rows that it has changed still match its where. This batch "
                f"was rolled back. Correct {self.file}, then run:\n{self._command}"
            )
        # Last, because all workers write this row.
        self.rows = connection.scalar(_SQL["count"], {"name": self.name, "rows": len(still_matching)}) or 0
        return "worked"

    def _record(self, connection: Connection, key: str) -> None:
        create_own_tables(connection, "backfill", [_SQL["backfill_table"], _SQL["batch_table"]])
        # Without where, a backfill that another process has just finished does not begin again.
        connection.execute(_SQL["begin"], {"name": self.name, "key": key, "again": self.backfill.where is not None})
        if (begun := self._read(connection).key) != key:
            raise BackfillError(
                f"The backfill {self.name} began with the table and key {begun}, but {self.file} now has {key}. "
                "Nothing was changed. Restore the file, and write a new backfill into a file with another name."
            )

    def _plan(self, connection: Connection) -> Step:
        """Plan the next batches, one worker at a time; after the last one, check whether rows still match."""
        if not connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(lock_key(SCHEMA, "backfill", self.name)))):
            return "wait"
        record = self._read(connection)
        if record.finished_at is not None:
            return "finished"
        if record.planned and record.unfinished:
            return "wait"
        if record.planned and (self.backfill.where is None or is_complete(connection, self.backfill, self.name)):
            connection.execute(_SQL["finish"], {"name": self.name})
            return "finished"
        if record.planned:
            self._refuse_for_ever()
        self._plan_after(connection, None if record.planned else record.position)
        return "worked"

    def _refuse_for_ever(self) -> None:
        self._passes += 1
        if self._passes >= PASSES:
            raise BackfillError(
                f"The backfill {self.name} has read the table {PASSES} times, but rows still match: the application "
                f"keeps writing such rows. Correct the application, then run:\n{self._command}"
            )

    def _plan_after(self, connection: Connection, position: Sequence[str] | None) -> None:
        connection.execute(_SQL["exact"])
        for _ in range(AHEAD):
            last = self._last_key(connection, position)
            if last is None:
                break
            connection.execute(_SQL["plan"], {"name": self.name, "after": position, "last": last})
            position = last
        connection.execute(_SQL["advance"], {"name": self.name, "position": position, "planned": last is None})

    def _last_key(self, connection: Connection, position: Sequence[str] | None) -> Sequence[str] | None:
        """The last key of the next batch, as text."""
        columns = [self.backfill.table.c[name] for name in self.backfill.key]
        rows = sa.select(*columns).where(self._after(position), self.backfill.matching).order_by(*columns)
        batch = rows.limit(self.backfill.batch_size).subquery().c
        key: sa.ColumnElement[Any] = array([sa.cast(column, sa.Text()) for column in batch])
        return connection.scalar(sa.select(key).order_by(*(column.desc() for column in batch)).limit(1))

    @property
    def _command(self) -> str:
        return backfill_command(self.name)

    @property
    def _key(self) -> sa.ColumnElement[Any]:
        return sa.tuple_(*(self.backfill.table.c[name] for name in self.backfill.key))

    def _value(self, key: Sequence[str]) -> sa.ColumnElement[Any]:
        typed = zip(key, self._types, strict=True)
        return sa.tuple_(*(sa.literal(value, sa.Text()).op("::")(sa.literal_column(name)) for value, name in typed))

    def _after(self, key: Sequence[str] | None) -> sa.ColumnElement[bool]:
        return sa.true() if key is None else self._key > self._value(key)

    def _read(self, connection: Connection) -> sa.Row[Any]:
        record = connection.execute(_SQL["read"], {"name": self.name}).one()
        self.rows = record.rows
        return record
