# Written by `pdm run operations`; a test compares it.
from collections.abc import Iterable, Sequence
from typing import Any

from alembic.operations import Operations

from safe_migrations.ddl.types import SQLType as SQLType

__all__ = ["SQLType", "op"]

class _Operations(Operations):
    def create_index_concurrently(
        self, index_name: str, table_name: str, columns: Sequence[Any], *, schema: str | None = None, **options: Any
    ) -> None:
        """Build an index without blocking reads or writes; replace an invalid one of this name.

        Args:
            index_name: the index's name.
            table_name: its table's.
            columns: as `op.create_index` takes them.
            schema: the table's.
            options: as `op.create_index` takes them, such as `unique` or `postgresql_where`.

        Raises:
            RevisionError: the revision has already changed something, or another index has this name.
        """
    def drop_index_concurrently(
        self, index_name: str, table_name: str | None = None, *, schema: str | None = None
    ) -> None:
        """Drop an index, if it exists, without blocking reads or writes.

        Args:
            index_name: the index's name.
            table_name: its table's.
            schema: the table's.

        Raises:
            RevisionError: the revision has already changed something.
        """
    def rebuild_index_concurrently(self, index_name: str, *, schema: str | None = None) -> None:
        """Rebuild an index without blocking reads or writes, and drop what failed rebuilds have left.

        Args:
            index_name: the index's name.
            schema: its table's.

        Raises:
            RevisionError: the revision has already changed something, or there is no such index.
        """
    def validate_constraint(self, constraint_name: str, table_name: str, *, schema: str | None = None) -> None:
        """Validate a foreign key or a check that was added NOT VALID, without blocking reads or writes.

        Args:
            constraint_name: the constraint's name; nothing happens if it is already valid.
            table_name: its table's.
            schema: the table's.
        """
    def create_unique_constraint_using_index(
        self,
        constraint_name: str,
        table_name: str,
        *,
        index_name: str | None = None,
        schema: str | None = None,
        deferrable: bool | None = None,
        initially: str | None = None,
    ) -> None:
        """Turn an existing unique index into a unique constraint; the index takes the constraint's name.

        Args:
            constraint_name: the constraint's name.
            table_name: its table's.
            index_name: the index's name, if it differs.
            schema: the table's.
            deferrable: whether the check can wait until the end of a transaction.
            initially: `DEFERRED` or `IMMEDIATE`.
        """
    def create_enum(self, name: str, values: Sequence[str], *, schema: str | None = None) -> None:
        """Create an enum, before the tables that use it.

        Args:
            name: the type's name.
            values: in their order.
            schema: the type's.
        """
    def drop_enum(self, name: str, *, schema: str | None = None) -> None:
        """Drop an enum, after the columns that use it.

        Args:
            name: the type's name.
            schema: the type's.
        """
    def add_enum_value(
        self, name: str, value: str, *, before: str | None = None, after: str | None = None, schema: str | None = None
    ) -> None:
        """Add a value, if the enum does not have it. Only later revisions can use it.

        Args:
            name: the type's name.
            value: the new value, which comes last by default.
            before: the value that follows it.
            after: the value that precedes it.
            schema: the type's.
        """
    def replace_enum(
        self, name: str, values: Sequence[str], *, columns: Iterable[tuple[str, str]], schema: str | None = None
    ) -> None:
        """Remove values of an enum, or change their order. This rewrites each table, blocking reads and writes.

        Defaults, checks and indexes that name a value are created again. If rows have a removed value, or something
        else depends on the type, this fails and changes nothing.

        Args:
            name: the type's name.
            values: all new values, in their order.
            columns: the table and the column of each column that has this type, or an array of it; the table as
                `schema.table` if it has a schema, and a name with a dot in double quotes.
            schema: the type's.
        """
    def create_domain(self, name: str, definition: str, *, schema: str | None = None) -> None:
        """Create a domain, before the tables that use it.

        Args:
            name: the domain's name.
            definition: as SQL, what follows `AS` in CREATE DOMAIN, such as `integer NOT NULL CHECK (VALUE > 0)`.
            schema: the domain's.
        """
    def drop_domain(self, name: str, *, schema: str | None = None) -> None:
        """Drop a domain, after the columns that use it.

        Args:
            name: the domain's name.
            schema: the domain's.
        """
    def create_schema(self, name: str) -> None:
        """Create a schema, unless it exists; no right to create schemas is needed then.

        Args:
            name: the schema's name.
        """
    def drop_schema(self, name: str) -> None:
        """Drop a schema, if it is empty and belongs to the user who migrates; otherwise do nothing.

        Args:
            name: the schema's name.
        """
    def drop_dependent_views(self, table_name: str, column_name: str, *, schema: str | None = None) -> None:
        """Drop the views that use a column before its type changes, until `recreate_dependent_views`.

        If anything else depends on the column or on these views, this fails and names it.

        Args:
            table_name: the table's name.
            column_name: the column's.
            schema: the table's.
        """
    def recreate_dependent_views(self) -> None:
        """Create the views again as they were, with their owners, options, privileges and comments."""
    def execute_file(self, revision_file: str, suffix: str = ".sql") -> None:
        """Execute the SQL statements of a file beside the revision, which has the revision's name but another suffix.

        Args:
            revision_file: `__file__`.
            suffix: of the file, instead of `.py`.

        Raises:
            RevisionError: the file can't be read.
        """
    def step(self, name: str) -> bool:
        """Commit the step before, and begin the next one: `if op.step("index ix_item_sku"):`

        Args:
            name: of the step; a revision uses each name once in a function.

        Returns:
            Whether to run the step: False if an earlier run has completed it.

        Raises:
            RevisionError: the function has executed a statement outside of its steps, or uses the name twice.
            ConfigurationError: `env.py` does not call `run_env`, or the caller of Alembic has begun the transaction.
        """

op: _Operations
