"""What PostgreSQL does to the rows when a column changes: `column_changes` tells it before, and each is traced here."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import URL, Column, Connection
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

from safe_migrations.ddl.column_changes import default_text, is_volatile, keeps_rows, writes_rows
from support import on

# Several of each family, with and without what they can have.
TYPES: dict[str, Sequence[TypeEngine[Any]]] = {
    "text": [
        sa.Text(),
        sa.String(),
        sa.String(10),
        sa.String(20),
        sa.String(10, collation="C"),
        sa.Text(collation="C"),
        sa.CHAR(10),
        sa.CHAR(20),
    ],
    "numbers": [
        sa.SmallInteger(),
        sa.Integer(),
        sa.BigInteger(),
        sa.Numeric(),
        sa.Numeric(10),
        sa.Numeric(10, 2),
        sa.Numeric(12, 2),
        sa.Numeric(12, 4),
        sa.Float(),
        sa.REAL(),
        sa.Double(),
        sa.Text(),
    ],
    "times": [
        sa.DateTime(),
        sa.DateTime(timezone=True),
        postgresql.TIMESTAMP(precision=3),
        postgresql.TIMESTAMP(precision=6),
        postgresql.TIMESTAMP(timezone=True, precision=3),
        postgresql.TIMESTAMP(timezone=True, precision=6),
        sa.Date(),
        sa.Text(),
    ],
    "time of day": [
        sa.Time(),
        sa.Time(timezone=True),
        postgresql.TIME(precision=3),
        postgresql.TIME(precision=6),
    ],
    "intervals": [
        sa.Interval(),
        postgresql.INTERVAL(precision=3),
        postgresql.INTERVAL(precision=6),
        postgresql.INTERVAL(fields="YEAR TO MONTH"),
    ],
    "bits": [
        postgresql.BIT(4),
        postgresql.BIT(8),
        postgresql.BIT(4, varying=True),
        postgresql.BIT(8, varying=True),
        postgresql.BIT(varying=True),
    ],
    "addresses": [postgresql.CIDR(), postgresql.INET(), sa.Text()],
    "documents": [sa.JSON(), postgresql.JSONB(), sa.Text()],
    "others": [sa.Boolean(), sa.Uuid(), sa.LargeBinary(), sa.Text()],
    "enums": [sa.Enum("a", "b", name="kind"), sa.Enum("a", "b", name="other"), sa.Text(), sa.String(10)],
    "arrays": [sa.ARRAY(sa.String(10)), sa.ARRAY(sa.String(20)), sa.ARRAY(sa.Text()), sa.ARRAY(sa.Integer())],
}
SETUP = (
    "SET timezone = 'Europe/Berlin'",
    "CREATE TYPE kind AS ENUM ('a', 'b')",
    "CREATE TYPE other AS ENUM ('a', 'b')",
    "CREATE SEQUENCE numbers",
    "CREATE FUNCTION volatile_one() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
    "CREATE FUNCTION stable_one() RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN 1; END'",
    "CREATE DOMAIN plain AS int",
    "CREATE DOMAIN checked AS int CHECK (VALUE <> 7)",
)
# What PostgreSQL does without writing a row, and the function does not know: seldom, or hardly ever a change.
CAREFUL = {
    "numbers": {("FLOAT", "DOUBLE PRECISION"), ("DOUBLE PRECISION", "FLOAT")},
    "intervals": {
        ("INTERVAL", "INTERVAL (6)"),
        ("INTERVAL (3)", "INTERVAL"),
        ("INTERVAL (3)", "INTERVAL (6)"),
        ("INTERVAL (6)", "INTERVAL"),
        ("INTERVAL YEAR TO MONTH", "INTERVAL"),
        ("INTERVAL YEAR TO MONTH", "INTERVAL (3)"),
        ("INTERVAL YEAR TO MONTH", "INTERVAL (6)"),
    },
}
FILES = "SELECT relname AS name, relfilenode AS file FROM pg_class WHERE relname IN ('row', 'row_value', 'row_id')"


def prepared(url: URL, function: Any, *arguments: Any) -> Any:
    """Call a function with a connection in AUTOCOMMIT, on which the types and functions exist."""

    def call(connection: Connection) -> Any:
        for statement in SETUP:
            connection.exec_driver_sql(statement)
        return function(connection, *arguments)

    return on(url, call, isolation_level="AUTOCOMMIT")


def name_of(type_: TypeEngine[Any]) -> str:
    return str(type_.compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]


def files(connection: Connection) -> dict[str, int]:
    return {row.name: row.file for row in connection.exec_driver_sql(FILES)}


def change_type(connection: Connection, before: TypeEngine[Any], after: TypeEngine[Any]) -> bool | None:
    """Whether the files of the table and of its indexes stay; None where PostgreSQL does not do this."""
    connection.exec_driver_sql("DROP TABLE IF EXISTS row")
    connection.exec_driver_sql(f"CREATE TABLE row (id int PRIMARY KEY, value {name_of(before)})")
    connection.exec_driver_sql("INSERT INTO row VALUES (1)")
    if not isinstance(before, sa.JSON) or isinstance(before, postgresql.JSONB):  # json has no order
        connection.exec_driver_sql("CREATE INDEX row_value ON row (value)")
    files_before = files(connection)
    try:
        connection.exec_driver_sql(f"ALTER TABLE row ALTER COLUMN value TYPE {name_of(after)}")
    except DBAPIError:
        return None
    return files(connection) == files_before


def disagreements(connection: Connection, types: Sequence[TypeEngine[Any]]) -> set[tuple[str, str]]:
    """The changes of type in which the function and PostgreSQL disagree."""
    pairs = set()
    for before, after in permutations(types, 2):
        expected, seen = keeps_rows(before, after), change_type(connection, before, after)
        assert seen or not expected, f"{name_of(before)} to {name_of(after)} writes rows, or does not work"
        if seen and not expected:
            pairs.add((name_of(before), name_of(after)))
    return pairs


@pytest.mark.thorough("test_autogenerate changes some types in both ways, beside code that goes on")
@pytest.mark.parametrize("family", list(TYPES))
def test_a_change_of_type_keeps_the_rows(url_of_each_version: URL, family: str) -> None:
    """Of all pairs of types; the function may be more careful than PostgreSQL, in rare cases."""
    assert prepared(url_of_each_version, disagreements, TYPES[family]) == CAREFUL.get(family, set())


def new_column(connection: Connection, column: Column[Any]) -> tuple[bool, bool]:
    """Whether adding a column is told to write the rows, and whether it does."""
    connection.exec_driver_sql("DROP TABLE IF EXISTS row")
    connection.exec_driver_sql("CREATE TABLE row (id int PRIMARY KEY, text text)")
    connection.exec_driver_sql("INSERT INTO row VALUES (1, 'a')")
    files_before = files(connection)
    sa.Table("row", sa.MetaData(), column)
    default = default_text(connection, column)
    Operations(MigrationContext.configure(connection)).add_column("row", column)
    expected = writes_rows(column) or (default is not None and is_volatile(connection, default))
    return expected, files(connection) != files_before


def column(default: Any = None, type_: Any = sa.Integer, **options: Any) -> Column[Any]:
    return Column("value", type_, server_default=sa.text(default) if isinstance(default, str) else default, **options)


def computed(text: str, *, persisted: bool) -> Column[Any]:
    return Column("value", sa.Text, sa.Computed(text, persisted=persisted))


KEEP = {
    "none": column(),
    "a constant": column("1"),
    "a text with parentheses": column("'random() it''s nextval(1)'", sa.Text),
    "null": column("NULL", sa.Uuid),
    "an expression": column("(1 + abs(-2))"),
    "a stable function": column("stable_one()"),
    "now": column(sa.func.now(), sa.DateTime(timezone=True)),
    "a keyword": column("CURRENT_DATE + 1", sa.Date),
    "a constant, not null": column("1", nullable=False),
    "a domain": column("1", postgresql.DOMAIN("plain", sa.Integer, create_type=False)),
    "an array": column("ARRAY[1, 2]", sa.ARRAY(sa.Integer)),
    "a literal of a type": column("'{}'::jsonb", postgresql.JSONB),
    "an enum": column("'a'", postgresql.ENUM("a", "b", name="kind", create_type=False)),
}
WRITE = {
    "random": column("random()", sa.Float),
    "a function of many cases": column("Pg_Catalog.Clock_Timestamp ()", sa.DateTime(timezone=True)),
    "a quoted function": column('"gen_random_uuid"()', sa.Uuid),
    "sequence": column(sa.Sequence("numbers").next_value()),
    "an own function": column("volatile_one()"),
    "inside another": column("coalesce(NULL, (abs(volatile_one())))"),
    "after a text": column("concat('it''s (', random())", sa.Text),
    "identity": Column("value", sa.Integer, sa.Identity()),
    "stored": computed("upper(text)", persisted=True),
    "a domain with a check": column(
        None, postgresql.DOMAIN("checked", sa.Integer, check="VALUE <> 7", create_type=False)
    ),
}


def test_new_columns(url_of_each_version: URL) -> None:
    """Which of them write the rows, and that each is told before."""

    def trace(connection: Connection) -> list[str]:
        return [
            name
            for columns, writes in ((KEEP, False), (WRITE, True))
            for name, added in columns.items()
            if new_column(connection, added._copy()) != (writes, writes)
        ]

    assert prepared(url_of_each_version, trace) == []


def test_a_virtual_column(database: URL) -> None:
    """New in PostgreSQL 18."""
    assert prepared(database, new_column, computed("upper(text)", persisted=False)) == (False, False)
