"""Tables, columns and foreign keys of the models, as values for whoever shows them."""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from alembic.util import to_list
from sqlalchemy.exc import CompileError, NoReferenceError
from sqlalchemy.types import NullType

from safe_migrations.autogenerate.column_types import enum_of
from safe_migrations.ddl.column_changes import DIALECT, plain_type
from safe_migrations.postgres.sql import sql_of


@dataclass(frozen=True)
class Column:
    """A column of the models.

    Attributes:
        name: in the database.
        type: as PostgreSQL names it, in lower case; empty if the models do not say it.
        is_nullable: whether a row may have no value.
        is_primary: whether it belongs to the primary key.
        is_unique: whether it is unique by itself, or the whole primary key.
        default: what PostgreSQL fills in: `default …`, `identity` or `generated as …`; empty for nothing.
        values: of an enum.
        comment: of the column; empty for none.
    """

    name: str
    type: str
    is_nullable: bool
    is_primary: bool
    is_unique: bool
    default: str
    values: tuple[str, ...]
    comment: str


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key of the models.

    Attributes:
        columns: of the table that has the key.
        table: that it refers to, with its schema if the models give one; the models may lack this table.
        referred_columns: of that table.
        is_nullable: whether a row may refer to no row.
        is_unique: whether a row is referred to once at most.
    """

    columns: tuple[str, ...]
    table: str
    referred_columns: tuple[str, ...]
    is_nullable: bool
    is_unique: bool


@dataclass(frozen=True)
class Table:
    """A table of the models.

    Attributes:
        name: with its schema if the models give one.
        comment: of the table; empty for none.
        columns: in the order of the models.
        foreign_keys: in the order of their columns.
    """

    name: str
    comment: str
    columns: tuple[Column, ...]
    foreign_keys: tuple[ForeignKey, ...]


def read_tables(target_metadata: sa.MetaData | Sequence[sa.MetaData] | None) -> list[Table]:
    """The structure of all tables of the models, sorted by name. No database is needed."""
    tables = [table for metadata in to_list(target_metadata, []) for table in metadata.tables.values()]
    return [_table(table) for table in sorted(tables, key=lambda table: table.fullname)]


def _table(table: sa.Table) -> Table:
    unique = _unique_columns(table)
    positions = {column: number for number, column in enumerate(table.columns)}
    keys = sorted(table.foreign_key_constraints, key=lambda key: [positions[column] for column in key.columns])
    return Table(
        table.fullname,
        table.comment or "",
        tuple(_column(column, unique) for column in table.columns),
        tuple(_foreign_key(key, unique) for key in keys),
    )


def _unique_columns(table: sa.Table) -> set[frozenset[str]]:
    """The sets of columns of which each value appears once at most, in all rows."""
    constraints: list[Iterable[sa.Column[Any]]] = [
        constraint.columns
        for constraint in table.constraints
        if isinstance(constraint, sa.PrimaryKeyConstraint | sa.UniqueConstraint)
    ]
    for index in table.indexes:
        of_all_rows = index.dialect_options["postgresql"]["where"] is None
        if index.unique and of_all_rows and all(isinstance(part, sa.Column) for part in index.expressions):
            constraints.append(index.columns)
    return {frozenset(column.name for column in columns) for columns in constraints} - {frozenset()}


def _column(column: sa.Column[Any], unique: set[frozenset[str]]) -> Column:
    enum = enum_of(column.type)
    return Column(
        column.name,
        _type(column),
        bool(column.nullable),
        column.primary_key,
        frozenset([column.name]) in unique,
        _default(column),
        tuple(enum.enums) if enum else (),
        column.comment or "",
    )


def _type(column: sa.Column[Any]) -> str:
    if isinstance(column.type, NullType):
        return ""
    with suppress(CompileError):
        return _lower(plain_type(column.type).compile(dialect=DIALECT))
    return ""


def _lower(sql: str) -> str:
    """What is quoted keeps its case."""
    return re.sub(r'[^"]+|"[^"]*"', lambda part: part[0] if part[0].startswith('"') else part[0].lower(), sql)


def _default(column: sa.Column[Any]) -> str:
    if column.identity is not None:
        return "identity"
    if column.computed is not None:
        return f"generated as {_sql(column.computed.sqltext)}"
    default = column.server_default
    return f"default {_sql(default.arg)}" if isinstance(default, sa.DefaultClause) else ""


def _sql(expression: Any) -> str:
    """An expression in SQL; a text is a literal."""
    element = sa.literal(expression) if isinstance(expression, str) else expression
    with suppress(CompileError):
        return sql_of(element, DIALECT, compile_kwargs={"literal_binds": True})
    return "…"


def _foreign_key(key: sa.ForeignKeyConstraint, unique: set[frozenset[str]]) -> ForeignKey:
    table, referred = _target(key)
    columns = tuple(column.name for column in key.columns)
    is_unique = any(names <= frozenset(columns) for names in unique)
    return ForeignKey(columns, table, referred, any(column.nullable for column in key.columns), is_unique)


def _target(key: sa.ForeignKeyConstraint) -> tuple[str, tuple[str, ...]]:
    """The table and the columns that a key refers to, also if the models have no such table."""
    try:
        return key.referred_table.fullname, tuple(element.column.name for element in key.elements)
    except NoReferenceError:
        names = [element.target_fullname.rpartition(".") for element in key.elements]
        return names[0][0], tuple(column for _, _, column in names)
