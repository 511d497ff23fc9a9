"""Operations for revision files that build, rebuild and drop an index without blocking reads and writes.

They come first in a revision, best alone, because PostgreSQL does not allow them in a transaction. Each can be
repeated: after a failure or a kill, the next run drops the invalid index and builds it again.
See https://www.postgresql.org/docs/current/sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from alembic.operations import MigrateOperation, Operations
from alembic.operations.ops import CreateIndexOp
from sqlalchemy import text

from safe_migrations.ddl.registration import register
from safe_migrations.errors import ConfigurationError, RevisionError
from safe_migrations.postgres.sql import ddl, qualified
from safe_migrations.postgres.timeouts import load_timeouts, milliseconds
from safe_migrations.postgres.transaction import RevisionTransaction

LONGEST_NAME = 63  # characters, in PostgreSQL
CONCURRENT_OPERATIONS = ("create_index_concurrently", "drop_index_concurrently", "rebuild_index_concurrently")

_IS_VALID = """
    SELECT indisvalid FROM pg_index
    WHERE indexrelid = to_regclass(:name) AND indrelid = coalesce(to_regclass(CAST(:table AS text)), indrelid)
"""
_DEFINITION = """
    SELECT indisunique::text || split_part(pg_get_indexdef(indexrelid), ' USING ', 2) FROM pg_index
    WHERE indexrelid = to_regclass(:name) AND indrelid = to_regclass(:table)
"""
_LEFT_BY_REBUILDS = """
    SELECT array_agg(other.indexrelid::regclass::text)
    FROM pg_index this JOIN pg_index other USING (indrelid) JOIN pg_class c ON c.oid = other.indexrelid
    WHERE this.indexrelid = to_regclass(:name) AND NOT other.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$'
"""
_HAS_WRITTEN = text("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")
_GET = text("SELECT current_setting(:name)")


class _ConcurrentOperation(MigrateOperation):
    def __init__(self, index_name: str, table_name: str | None, schema: str | None, **options: Any) -> None:
        self.index_name = index_name
        self.table_name = table_name
        self.schema = schema
        self.options = options

    def of_copy(self) -> "_ConcurrentOperation":
        """The same index of another table, with names that nobody else uses."""
        name = uuid4().hex
        return _ConcurrentOperation(f"index_{name}", f"table_{name}", self.schema, **self.options)


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
        with _no_transaction(operations):
            index = _Index(operations, self)
            if index.is_valid() is False:
                index.drop()
            if index.is_valid():
                index.check_definition()
                return
            try:
                index.create()
                index.check_valid()
            except Exception:
                with suppress(Exception):  # the connection may be gone; then the next run drops the index
                    index.drop()
                raise


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
        with _no_transaction(operations):
            _Index(operations, self).drop()


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
        with _no_transaction(operations):
            index = _Index(operations, self)
            index.drop_left_by_rebuilds()
            try:
                index.rebuild()
                index.check_valid()
            except Exception:
                with suppress(Exception):
                    index.drop_left_by_rebuilds()
                raise


class _Index:
    """An index of the database; offline, nothing is known of it."""

    def __init__(self, operations: Operations, operation: _ConcurrentOperation) -> None:
        self.operations = operations
        self.operation = operation
        self.schema = operation.schema

    @property
    def name(self) -> str:
        return qualified(self.operations.get_context().dialect, self.schema, self.operation.index_name)

    @property
    def table(self) -> str | None:
        name = self.operation.table_name
        return qualified(self.operations.get_context().dialect, self.schema, name) if name else None

    def is_valid(self) -> bool | None:
        """Whether queries can use it; None where it does not exist."""
        valid: bool | None = self._fetch(_IS_VALID)
        return valid

    def check_valid(self) -> None:
        if not self.operations.get_context().as_sql and not self.is_valid():
            raise RevisionError(f"The index {self.name} is invalid after it was built; run the same command again.")

    def create(self, *, concurrently: bool = True) -> None:
        create = CreateIndexOp(
            self.operation.index_name,
            self.operation.table_name or "",
            schema=self.schema,
            postgresql_concurrently=concurrently,
            **self.operation.options,
        )
        self.operations.invoke(create)

    def drop(self) -> None:
        if self.operations.get_context().as_sql or self.is_valid() is not None:
            self.operations.execute(ddl("DROP INDEX CONCURRENTLY %(name)s", name=self.name))

    def rebuild(self) -> None:
        self.operations.execute(ddl("REINDEX INDEX CONCURRENTLY %(name)s", name=self.name))

    def drop_left_by_rebuilds(self) -> None:
        for name in self._fetch(_LEFT_BY_REBUILDS) or ():
            self.operations.execute(ddl("DROP INDEX CONCURRENTLY %(name)s", name=name))

    def check_definition(self) -> None:
        """Compare the index with the same index of an empty copy of the table, as PostgreSQL writes both.

        The copy is rolled back. It is not temporary, because not every user may create temporary tables.
        """
        existing, copy = self._fetch(_DEFINITION), _Index(self.operations, self.operation.of_copy())
        self.operations.execute(text("BEGIN"))
        try:
            names = {"copy": copy.table or "", "table": self.table or ""}
            self.operations.execute(ddl("CREATE TABLE %(copy)s (LIKE %(table)s)", **names))
            copy.create(concurrently=False)
            expected = copy._fetch(_DEFINITION)
        finally:
            self.operations.execute(text("ROLLBACK"))
        if existing != expected:
            raise RevisionError(
                f"An index {self.name} exists, and it differs from the one that this revision builds; give the new "
                "index another name, or drop the existing one in an earlier revision."
            )

    def _fetch(self, query: str) -> Any:
        if self.operations.get_context().as_sql:
            return None
        names = {"name": self.name, "table": self.table}
        return self.operations.get_bind().scalar(text(query), {key: names[key] for key in names if f":{key}" in query})


@contextmanager
def _no_transaction(operations: Operations) -> Iterator[None]:
    """Leave the revision's transaction, which must have changed nothing, and set timeouts for the build."""
    context = operations.get_context()
    if context.opts.get("transaction_of_caller"):
        raise ConfigurationError(
            "A concurrent index can't be built in the caller's transaction. Give Alembic a connection that is not in a "
            "transaction."
        )
    if not context.as_sql and operations.get_bind().scalar(_HAS_WRITTEN):
        raise RevisionError(
            "A concurrent index must come first in its revision, best alone, because changes before it could not be "
            "rolled back; move it to a revision of its own."
        )
    transaction = None if context.as_sql else RevisionTransaction.of(operations.get_bind())
    timeouts = transaction.timeouts if transaction else load_timeouts()
    # A waiting build blocks neither reads nor writes, so it may wait as long as all tries together.
    wait = milliseconds(timeouts.retry_window or timeouts.lock_timeout)
    settings = {"lock_timeout": wait, "statement_timeout": "0ms"}
    if transaction:
        transaction.suspend(operations.get_bind())
    with context.autocommit_block():
        before = {name: timeouts.session_settings()[name] for name in settings}
        if not context.as_sql:
            before = {name: operations.get_bind().scalar(_GET, {"name": name}) for name in settings}
        _set(operations, settings)
        try:
            yield
        except BaseException:
            with suppress(Exception):
                _set(operations, before)
            raise
        _set(operations, before)
    if transaction:
        transaction.note(operations.get_bind())


def _set(operations: Operations, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        operations.execute(ddl("SET %(name)s = '%(value)s'", name=name, value=value))
