"""Preparing the models for the comparison: names as PostgreSQL stores them, references in cycles."""

from collections.abc import Sequence

from alembic.autogenerate.api import AutogenContext
from alembic.util import to_list
from sqlalchemy import CheckConstraint, Constraint, Index, MetaData, PrimaryKeyConstraint, Table, UniqueConstraint
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.schema import sort_tables_and_constraints
from sqlalchemy.sql.elements import conv

from safe_migrations.autogenerate.column_types import enum_of
from safe_migrations.autogenerate.sqlalchemy_internals import is_created
from safe_migrations.ddl.column_changes import DIALECT
from safe_migrations.errors import ModelError
from safe_migrations.postgres.sql import LONGEST_NAME, short_name
from safe_migrations.upgrade.target_metadata import explained_models

_WITH_INDEX = (PrimaryKeyConstraint, UniqueConstraint, ExcludeConstraint)


def prepare(context: AutogenContext) -> None:
    """Leave out checks that are never created, shorten names, and let foreign keys in a cycle follow their tables.

    Checks of a column become those of its table, because Alembic writes no other ones.

    Raises:
        ModelError: PostgreSQL would cut off a name that the models spell out, or no revision could create a table.
    """
    _refuse_duplicates(to_list(context.metadata))
    tables = list(context.table_key_to_table.values())
    for table in tables:
        for column in table.columns:
            for check in [item for item in column.constraints if isinstance(item, CheckConstraint)]:
                column.constraints.discard(check)
                table.append_constraint(check)
        for check in [item for item in table.constraints if isinstance(item, CheckConstraint) and not is_created(item)]:
            table.constraints.discard(check)
        _shorten_names(table)
    compared = [table for table in tables if context.run_object_filters(table, table.name, "table", False, None)]
    _refuse_same_names(compared)
    for column in (column for table in tables for column in table.columns):
        for key in column.foreign_keys:
            with explained_models(f"column {column}"):
                _ = key.column
        if column.table in compared and enum_of(column.type) is None:
            with explained_models(f"column {column}"):
                column.type.compile(dialect=DIALECT)
    _, late = sort_tables_and_constraints(tables)[-1]  # type: ignore[no-untyped-call]  # SQLAlchemy has left it so
    in_cycles = {key.table for key in late}
    for key in late:
        key.use_alter |= key.referred_table is not key.table and key.referred_table in in_cycles


def _refuse_duplicates(models: Sequence[MetaData]) -> None:
    for number, metadata in enumerate(models):
        for other in models[:number]:
            if both := sorted(other.tables.keys() & metadata.tables.keys()):
                raise ModelError(
                    f"Two MetaData of the models have the table {both[0]}. Keep the table in one of them, then run the "
                    "same command again."
                )


def _refuse_same_names(tables: Sequence[Table]) -> None:
    """Refuse a name that PostgreSQL would give to two indexes of a schema; a constraint of these kinds has one."""
    owners: dict[tuple[str | None, str], str] = {}
    for table in tables:
        constraints = (item for item in table.constraints if isinstance(item, _WITH_INDEX))
        for name in sorted(str(item.name) for item in (*table.indexes, *constraints) if isinstance(item.name, str)):
            if (table.schema, name) in owners:
                where = " and ".join(dict.fromkeys([owners[table.schema, name], table.fullname]))
                raise ModelError(
                    f"Two indexes or constraints of the models have the name {name} (table {where}), and PostgreSQL "
                    "allows a name once in a schema. Rename one, then run the same command again."
                )
            owners[table.schema, name] = table.fullname


def _shorten_names(table: Table) -> None:
    items: list[Constraint | Index] = [*table.constraints, *table.indexes]
    for item in items:
        if isinstance(item.name, conv):
            item.name = conv(short_name(item.name))
    enums = [enum for column in table.columns if (enum := enum_of(column.type)) is not None]
    for name in (table.schema, table.name, *(item.name for item in (*table.columns, *items, *enums))):
        if isinstance(name, str) and (length := len(name.encode())) > LONGEST_NAME:
            raise ModelError(
                f"The models have a name of {length} bytes in the table {table.fullname}: {name}. PostgreSQL cuts off "
                f"what follows {LONGEST_NAME} bytes. Shorten the name, then run the same command again."
            )
