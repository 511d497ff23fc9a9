"""Operations for revision files that build, rebuild and drop an index without blocking reads and writes.

They come first in a revision, best alone, because PostgreSQL does not allow them in a transaction. Each can be
repeated: after a failure or a kill, the next run drops the invalid index and builds it again.
See https://www.postgresql.org/docs/current/sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from alembic.operations import MigrateOperation, Operations
from alembic.operations.ops import CreateIndexOp
from sqlalchemy import TextClause, func, select

from safe_migrations.ddl.outside_transaction import longest_wait, outside_transaction, run_briefly, set_for_session
from safe_migrations.ddl.partitions import Partition, create_index_only, is_partitioned, partitions_without_index
from safe_migrations.ddl.registration import register
from safe_migrations.errors import LockedError, RevisionError
from safe_migrations.postgres.catalog import sessions, transactions_of_index
from safe_migrations.postgres.rollback import rolled_back
from safe_migrations.postgres.sql import ddl, qualified, read_sql
from safe_migrations.postgres.statements import parts
from safe_migrations.postgres.timeouts import ReportTimer, Timeouts, duration_text, milliseconds

CONCURRENT_OPERATIONS = ("create_index_concurrently", "drop_index_concurrently", "rebuild_index_concurrently")

_SQL = read_sql(__package__, "indexes.sql")

log = logging.getLogger(__name__)


class _ConcurrentOperation(MigrateOperation):
    def __init__(self, index_name: str, table_name: str | None, schema: str | None, **options: Any) -> None:
        self.index_name = index_name
        self.table_name = table_name
        self.schema = schema
        self.options = options

    def of_copy(self) -> "_ConcurrentOperation":
        """The same index of another table, with names that are not used yet."""
        name = uuid4().hex
        return _ConcurrentOperation(f"index_{name}", f"table_{name}", self.schema, **self.options)

    def of_partition(self, partition: Partition) -> "_ConcurrentOperation":
        """The part of the index for one partition."""
        return _ConcurrentOperation(partition.index, partition.name, partition.schema, **self.options)


@register
class CreateIndexConcurrentlyOp(_ConcurrentOperation):
    """CREATE INDEX CONCURRENTLY, in a revision."""

    @classmethod
    def create_index_concurrently(
        cls,
        operations: Operations,
        index_name: str,
        table_name: str,
        columns: Sequence[Any],
        *,
        schema: str | None = None,
        **options: Any,
    ) -> None:
        """Build an index without blocking reads or writes; replace an invalid one of this name.

        Args:
            operations: given by Alembic.
            index_name: the index's name.
            table_name: its table's.
            columns: as `op.create_index` takes them.
            schema: the table's.
            options: as `op.create_index` takes them, such as `unique` or `postgresql_where`.

        Raises:
            RevisionError: the revision has already changed something, or another index has this name.
        """
        operations.invoke(cls(index_name, table_name, schema, columns=columns, **options))

    def run(self, operations: Operations) -> None:
        """Build the index."""
        with outside_transaction(operations) as timeouts:
            _Index(operations, self).build(timeouts)


@register
class DropIndexConcurrentlyOp(_ConcurrentOperation):
    """DROP INDEX CONCURRENTLY, in a revision."""

    @classmethod
    def drop_index_concurrently(
        cls, operations: Operations, index_name: str, table_name: str | None = None, *, schema: str | None = None
    ) -> None:
        """Drop an index, if it exists, without blocking reads or writes.

        Args:
            operations: given by Alembic.
            index_name: the index's name.
            table_name: its table's.
            schema: the table's.

        Raises:
            RevisionError: the revision has already changed something.
        """
        operations.invoke(cls(index_name, table_name, schema))

    def run(self, operations: Operations) -> None:
        """Drop the index."""
        with outside_transaction(operations) as timeouts:
            index = _Index(operations, self)
            if index.is_partitioned(index.name):
                run_briefly(operations, timeouts, ddl("DROP INDEX %(name)s", name=index.name))
                return
            index.wait_for_transactions(timeouts, readers=True)
            with index.undone(timeouts):
                index.drop()


@register
class RebuildIndexConcurrentlyOp(_ConcurrentOperation):
    """REINDEX INDEX CONCURRENTLY, in a revision."""

    @classmethod
    def rebuild_index_concurrently(cls, operations: Operations, index_name: str, *, schema: str | None = None) -> None:
        """Rebuild an index without blocking reads or writes, and drop what failed rebuilds have left.

        Args:
            operations: given by Alembic.
            index_name: the index's name.
            schema: its table's.

        Raises:
            RevisionError: the revision has already changed something, or there is no such index.
        """
        operations.invoke(cls(index_name, None, schema))

    def run(self, operations: Operations) -> None:
        """Rebuild the index."""
        with outside_transaction(operations) as timeouts:
            index = _Index(operations, self)
            index.wait_for_transactions(timeouts, readers=True)
            index.drop_left_by_rebuilds()
            with index.undone(timeouts, index.drop_left_by_rebuilds):
                index.rebuild()
                index.check_valid()


class _Index:
    """An index of the database; offline, nothing is known about the index."""

    def __init__(self, operations: Operations, operation: _ConcurrentOperation) -> None:
        self.operations = operations
        self.operation = operation
        self.schema = operation.schema
        # An index is in the schema of its table, which need not be the first one of the search path.
        self.schema = self.schema or self._fetch(_SQL["other_schema"])

    @property
    def name(self) -> str:
        return qualified(self.operations.get_context().dialect, self.schema, self.operation.index_name)

    @property
    def table(self) -> str | None:
        name = self.operation.table_name
        return qualified(self.operations.get_context().dialect, self.schema, name) if name else None

    @property
    def is_offline(self) -> bool:
        return bool(self.operations.get_context().as_sql)

    def wait_for_transactions(self, timeouts: Timeouts, *, readers: bool) -> None:
        """Wait for transactions that would stop the operation half-way, and prevent its rollback."""
        if self.is_offline:
            return
        connection = self.operations.get_bind()
        wait = longest_wait(timeouts)
        until, timer = time.monotonic() + wait, ReportTimer(1)
        waiting = dict(transactions_of_index(connection, self.name, self.table, readers=readers))
        while waiting:
            left = until - time.monotonic()
            if timer.is_due() or left <= 0:
                blocking = sessions(connection, list(waiting.values()))
                if left <= 0 and blocking:  # a prepared transaction may just have ended
                    raise LockedError(
                        f"Transactions that use the table of the index {self.name} did not end within "
                        f"{duration_text(wait)} ({'; '.join(map(str, blocking))}). The index was not changed. Wait "
                        "until these transactions end, or end these transactions. Then run the same command again. To "
                        f"end the first transaction{blocking[0].how_to_end}"
                    )
                fields = {"blockers": [session.fields for session in blocking]}
                log.info("Waiting up to %s for %s", duration_text(left), "; ".join(map(str, blocking)), extra=fields)
            connection.execute(select(func.pg_sleep(0.2)))  # the server waits: work beside this connection continues
            current = transactions_of_index(connection, self.name, self.table, readers=readers)
            waiting = {transaction: pid for transaction, pid in waiting.items() if transaction in current}

    @contextmanager
    def undone(self, timeouts: Timeouts, undo: Callable[[], None] = lambda: None) -> Iterator[None]:
        """If the operation fails, undo it as far as that is possible, and note what is left."""
        try:
            yield
        except Exception as error:
            with suppress(Exception):  # the connection may be gone
                set_for_session(self.operations, {"lock_timeout": milliseconds(timeouts.lock_timeout)})
                with suppress(Exception):
                    undo()
                if left := [*([self.name] if self.is_valid() is False else []), *self.left_by_rebuilds()]:
                    error.add_note(f"Invalid indexes remain, which the next run drops: {', '.join(left)}.")
            raise

    def is_valid(self) -> bool | None:
        """Whether queries can use it; None where it does not exist."""
        valid: bool | None = self._fetch(_SQL["is_valid"])
        return valid

    def check_valid(self) -> None:
        if not self.is_offline and not self.is_valid():
            raise RevisionError(f"The index {self.name} is invalid after its build. Run the same command again.")

    def is_partitioned(self, name: str | None) -> bool:
        return not self.is_offline and is_partitioned(self.operations.get_bind(), name or "")

    def build(self, timeouts: Timeouts, whole: str | None = None) -> None:
        """Build the index, unless it is valid; that of a partitioned table for one partition after the other.

        Args:
            whole: the name of the index that this one is a part of.
        """
        if self.is_valid():
            self.check_definition()
            return
        if self.is_partitioned(self.table):
            self._build_by_partitions(timeouts, whole)
            return
        self.wait_for_transactions(timeouts, readers=self.is_valid() is False)
        with self.undone(timeouts, self.drop):
            if self.is_valid() is False:
                self.drop()
            self.operations.invoke(self._create(concurrently=True))
            self.check_valid()

    def _build_by_partitions(self, timeouts: Timeouts, whole: str | None) -> None:
        names = self.table or "", self.name, whole or parts(self.name)[-1]
        partitions_without_index(self.operations.get_bind(), *names)  # which refuses foreign tables
        if self.is_valid() is None:
            create = create_index_only(self._create().to_index(self.operations.migration_context))
            run_briefly(self.operations, timeouts, create)
        else:
            self.check_definition()
        for partition in partitions_without_index(self.operations.get_bind(), *names):
            index = _Index(self.operations, self.operation.of_partition(partition))
            index.build(timeouts, whole=names[-1])
            attach = ddl("ALTER INDEX %(name)s ATTACH PARTITION %(part)s", name=self.name, part=index.name)
            run_briefly(self.operations, timeouts, attach)
        self.check_valid()

    def _create(self, *, concurrently: bool = False) -> CreateIndexOp:
        return CreateIndexOp(
            self.operation.index_name,
            self.operation.table_name or "",
            schema=self.schema,
            postgresql_concurrently=concurrently,
            **self.operation.options,
        )

    def drop(self) -> None:
        if self.is_offline or self.is_valid() is not None:
            self.operations.execute(ddl("DROP INDEX CONCURRENTLY %(name)s", name=self.name))

    def rebuild(self) -> None:
        self.operations.execute(ddl("REINDEX INDEX CONCURRENTLY %(name)s", name=self.name))

    def left_by_rebuilds(self) -> list[str]:
        return list(self._fetch(_SQL["left_by_rebuilds"]) or ())

    def drop_left_by_rebuilds(self) -> None:
        for name in self.left_by_rebuilds():
            self.operations.execute(ddl("DROP INDEX CONCURRENTLY %(name)s", name=name))

    def check_definition(self) -> None:
        """Compare the index with the same index of an empty copy of the table, as PostgreSQL writes both.

        The copy is rolled back. It is not temporary, because not every user may create temporary tables.
        """
        existing, copy = self._fetch(_SQL["definition"]), _Index(self.operations, self.operation.of_copy())
        with rolled_back(self.operations.get_bind()):
            names = {"copy": copy.table or "", "table": self.table or ""}
            self.operations.execute(ddl("CREATE TABLE %(copy)s (LIKE %(table)s)", **names))
            self.operations.invoke(copy._create())
            expected = copy._fetch(_SQL["definition"])
        if existing != expected:
            raise RevisionError(
                f"An index {self.name} exists, and differs from the index that this revision builds. Give the new "
                "index another name, or drop the existing one in an earlier revision."
            )

    def _fetch(self, query: TextClause) -> Any:
        if self.is_offline:
            return None
        names = {"name": self.name, "table": self.table}
        return self.operations.get_bind().scalar(query, {key: names[key] for key in names if f":{key}" in query.text})
