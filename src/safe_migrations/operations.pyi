# Written by `pdm run operations`; a test compares it.
from collections.abc import Iterable, Sequence
from typing import Any

from alembic.operations import Operations

__all__ = ["op"]

class _Operations(Operations):
    def create_index_concurrently(
        self, index_name: str, table_name: str, columns: Sequence[Any], *, schema: str | None = None, **options: Any
    ) -> None:
        """Build an index while others read and write the table; replace an invalid one of this name.

        Args:
            index_name: the index's name.
            table_name: its table's.
            columns: as `op.create_index` takes them.
            schema: the table's.
            options: as `op.create_index` takes them, such as `unique` or `postgresql_where`.

        Raises:
            MigrationError: the revision has changed something already, or another index has this name.
        """
    def drop_index_concurrently(
        self, index_name: str, table_name: str | None = None, *, schema: str | None = None
    ) -> None:
        """Drop an index while others read and write the table; one that is gone already is left at that.

        Args:
            index_name: the index's name.
            table_name: its table's.
            schema: the table's.

        Raises:
            MigrationError: the revision has changed something already.
        """
    def rebuild_index_concurrently(self, index_name: str, *, schema: str | None = None) -> None:
        """Rebuild an index while others read and write the table, and drop what earlier rebuilds have left.

        Args:
            index_name: the index's name.
            schema: its table's.

        Raises:
            MigrationError: the revision has changed something already, or there is no such index.
        """
    def validate_constraint(self, constraint_name: str, table_name: str, *, schema: str | None = None) -> None:
        """Check the rows that a foreign key or a check has not been checked on; others read and write meanwhile.

        Args:
            constraint_name: the constraint's name; one that is valid already is left at that.
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
        """Make a unique constraint of a unique index that exists; the index takes the constraint's name.

        Args:
            constraint_name: the constraint's name.
            table_name: its table's.
            index_name: the index's name, if it is another one.
            schema: the table's.
            deferrable: whether it can wait for the end of a transaction.
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
        """Add a value; one that is there already is left at that. Only later revisions may use it.

        Args:
            name: the type's name.
            value: the new one, which comes last unless its place is told.
            before: the value that it stands before.
            after: the value that it stands after.
            schema: the type's.
        """
    def replace_enum(
        self, name: str, values: Sequence[str], *, columns: Iterable[tuple[str, str]], schema: str | None = None
    ) -> None:
        """Remove values of an enum, or change their order. It rewrites each table, which nobody can read meanwhile.

        Defaults, checks and indexes that name a value are made again. Where a removed value is in use, or something
        else depends on the type, it fails and changes nothing.

        Args:
            name: the type's name.
            values: all that it has from now on, in their order.
            columns: the table and the column of each that has this type, or is an array of it; the table as
                `schema.table` where it has a schema.
            schema: the type's.
        """

op: _Operations
