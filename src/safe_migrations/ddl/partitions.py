"""Indexes of partitioned tables, which PostgreSQL can't build or drop concurrently as a whole.

See https://www.postgresql.org/docs/current/ddl-partitioning.html#DDL-PARTITIONING-DECLARATIVE-MAINTENANCE
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Column, Connection, Index, Table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex
from sqlalchemy.types import NullType

from safe_migrations.errors import RevisionError
from safe_migrations.postgres.sql import read_sql, short_name

_SQL = read_sql(__package__, "partitions.sql")


@dataclass(frozen=True)
class Partition:
    """A partition of a table, with its part of an index of the table.

    Attributes:
        schema: the partition's.
        name: the partition's.
        index: the name of its part of the index, which is in its schema.
    """

    schema: str
    name: str
    index: str


def is_partitioned(connection: Connection, name: str) -> bool:
    """Whether a table or an index is partitioned.

    Args:
        name: as SQL has it.
    """
    return bool(connection.scalar(_SQL["is_partitioned"], {"name": name}))


def partitions_without_index(connection: Connection, table: str, index: str, whole: str) -> list[Partition]:
    """The partitions for which a partitioned index has no valid part yet.

    Args:
        table: the partitioned table, as SQL has it.
        index: the partitioned index, as SQL has it.
        whole: the name of the index of the whole tree, which names its parts.

    Raises:
        RevisionError: a partition is a foreign table, so that the index can't become valid.
    """
    if foreign := connection.scalar(_SQL["foreign"], {"table": table}):
        raise RevisionError(
            f"The index {index} can't be built concurrently, because partitions of {table} are foreign tables: "
            f"{', '.join(foreign)}. Build the index in a maintenance window with op.create_index, which skips foreign "
            "tables."
        )
    rows = connection.execute(_SQL["partitions"], {"table": table, "index": index}).all()
    return [
        Partition(
            row.schema,
            row.name,
            row.own or next(name for name in partition_indexes(row.name, whole) if name not in row.taken),
        )
        for row in rows
        if not row.is_valid
    ]


def partition_indexes(partition: str, index: str) -> Iterator[str]:
    """The names for the part of an index; the first one that no part of another index has is taken."""
    yield short_name(f"{partition}_{index}")
    yield from (short_name(f"{partition}_{index}_{number}") for number in range(2, 10))


def create_index_only(index: Index) -> CreateIndex:
    """CREATE INDEX … ON ONLY: of a partitioned table, without its partitions.

    Args:
        index: of a table that need not have the columns of INCLUDE, as Alembic makes it.
    """
    table = cast(Table, index.table)
    for name in index.dialect_options["postgresql"]["include"] or ():
        if name not in table.columns:
            table.append_column(Column(name, NullType))
    return _CreateIndexOnly(index)


class _CreateIndexOnly(CreateIndex):
    inherit_cache = False


@compiles(_CreateIndexOnly)
def _compile(create: _CreateIndexOnly, compiler: Any, **options: Any) -> str:
    statement: str = compiler.visit_create_index(create, **options)
    before_table = f"{compiler.preparer.format_index(create.element)} ON "
    return statement.replace(before_table, f"{before_table}ONLY ", 1)
