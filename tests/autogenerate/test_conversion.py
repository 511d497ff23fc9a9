"""What a new type costs and loses: the text of autogenerate against what PostgreSQL does."""

from itertools import permutations
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import ops
from sqlalchemy import URL, Connection, cast, literal_column, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

from safe_migrations.autogenerate.conversion import Cost, cost_of, lost
from support import fetch, on

COSTS = {
    "nothing": ("code", sa.String(20), sa.String(50), Cost(False)),
    "an index of the column alone": ("name", sa.String(20), sa.Text(), Cost(False)),
    "a check": ("checked", sa.String(20), sa.String(50), Cost(False, (), True)),
    "an expression": ("lower", sa.String(20), sa.String(50), Cost(False, ("ix_lower",))),
    "a predicate": ("part", sa.String(20), sa.String(50), Cost(False, ('"Shop"."ix Part"',))),
    "another operator class": ("name", sa.String(20), postgresql.CITEXT(), Cost(False, ("ux_name",))),
    "another collation": ("name", sa.String(20), sa.String(20, collation="C"), Cost(False, ("ux_name",))),
    "a rewrite": ("name", sa.String(20), sa.String(10), Cost()),
    "no such conversion": ("name", sa.String(20), sa.Integer(), Cost()),
}


def test_cost(database: URL) -> None:
    for statement in (
        "CREATE EXTENSION citext",
        'CREATE SCHEMA "Shop"',
        'CREATE TABLE "Shop"."Item" (id int, code varchar(20), name varchar(20), lower varchar(20), part varchar(20), '
        "checked varchar(20) CHECK (checked <> ''))",
        'CREATE UNIQUE INDEX ux_name ON "Shop"."Item" (name)',
        'CREATE INDEX ix_lower ON "Shop"."Item" (lower(lower))',
        'CREATE INDEX "ix Part" ON "Shop"."Item" (id) WHERE part <> \'\'',
    ):
        fetch(database, statement)
    for case, (column, before, after, cost) in COSTS.items():
        change = ops.AlterColumnOp("Item", column, schema="Shop", existing_type=before, modify_type=after)
        seen = on(database, cost_of, [change], isolation_level="AUTOCOMMIT")
        names = tuple(name.removeprefix('"Shop".') for name in cost.indexes)
        assert (seen.rewrites, seen.scans) == (cost.rewrites, cost.scans), case
        assert tuple(name.removeprefix('"Shop".') for name in seen.indexes) == names, case
        assert change.table_name == "Item"
    assert fetch(database, "SELECT FROM pg_class WHERE relname ~ '^copy_'") == []


VALUES: dict[TypeEngine[Any], list[str]] = {
    sa.SmallInteger(): ["32767"],
    sa.Integer(): ["16777217", "2"],
    sa.BigInteger(): ["9007199254740993", "1"],
    sa.Numeric(): ["0.1234567890123456789", "1"],
    sa.Numeric(10, 2): ["12.34", "5.00"],
    sa.Numeric(12): ["123456789012"],
    sa.REAL(): ["0.1", "16777216"],
    sa.Double(): ["0.1", "123456789.123"],
    sa.Boolean(): ["true"],
    sa.Text(): ["01 ", "12", "{ }", "2026-01-01", "true", "a  ", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"],
    sa.String(40): ["01 ", "12", "{ }", "2026-01-01", "true", "a  "],
    sa.CHAR(3): ["a", "1"],
    sa.JSON(): ['{"b": 1,  "a": 2}', "1"],
    postgresql.JSONB(): ['{"b": 1, "a": 2}', "1"],
    sa.Date(): ["2026-01-01"],
    sa.DateTime(): ["2026-01-01 12:30:00.123456"],
    sa.DateTime(timezone=True): ["2026-01-01 23:30:00.123456+00"],
    postgresql.TIMESTAMP(precision=0): ["2026-01-01 12:30:00"],
    sa.Time(): ["12:30:00.123456"],
    postgresql.TIME(timezone=True): ["12:30:00.123456+09"],
    sa.Interval(): ["1 mon 2 days"],
    sa.Uuid(): ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    postgresql.INET(): ["10.0.0.1/24"],
    postgresql.CIDR(): ["10.0.0.0/24"],
    postgresql.MACADDR(): ["08:00:2b:01:02:03"],
    postgresql.BYTEA(): [r"\x01ff"],
    postgresql.ARRAY(sa.Integer): ["{1,2}"],
    postgresql.ARRAY(sa.Numeric): ["{1.5}"],
}


def test_each_loss_is_named(database: URL) -> None:
    """A value of each type goes to each other type and back."""
    pairs = [
        (before, after, value)
        for before, after in permutations(VALUES, 2)
        if not lost(before, after)
        for value in VALUES[before]
        if len(value.rstrip()) <= (getattr(after, "length", None) or 100)  # a cast truncates where a column fails
    ]

    def is_lost(connection: Connection, before: TypeEngine[Any], after: TypeEngine[Any], value: str) -> bool:
        original = cast(literal_column(f"'{value}'"), before)
        texts = (cast(side, sa.Text) for side in (cast(cast(original, after), before), original))
        try:
            return bool(connection.scalar(select(next(texts).is_distinct_from(next(texts)))))
        except DBAPIError:  # no such conversion, or none of this value: the upgrade fails, and loses nothing
            return False

    def not_named(connection: Connection) -> list[Any]:
        connection.execute(text("SET TimeZone = 'UTC'"))
        return [pair for pair in pairs if is_lost(connection, *pair)]

    assert on(database, not_named, isolation_level="AUTOCOMMIT") == []


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        (sa.DateTime(timezone=True), sa.Date(), "time of day"),
        (sa.DateTime(), sa.Time(), "date"),
        (sa.DateTime(), postgresql.TIMESTAMP(precision=0), "fractions"),
        (sa.Numeric(10, 2), sa.Integer(), "decimal point"),
        (sa.Numeric(10, 2), sa.Numeric(10, 1), "decimal point"),
        (sa.BigInteger(), sa.Double(), "digits"),
        (sa.Double(), sa.REAL(), "digits"),
        (sa.JSON(), postgresql.JSONB(), "order of keys"),
        (sa.Text(), sa.Integer(), "leading zeros"),
        (sa.Integer(), sa.Boolean(), "number"),
        (postgresql.ARRAY(sa.Numeric), postgresql.ARRAY(sa.Integer), "decimal point"),
        (postgresql.ENUM("a", name="kind"), sa.Integer(), "new type"),
    ],
)
def test_loss(before: TypeEngine[Any], after: TypeEngine[Any], what: str) -> None:
    assert what in lost(before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (sa.Integer(), sa.BigInteger()),
        (sa.Integer(), sa.Double()),
        (sa.Date(), sa.DateTime(timezone=True)),
        (sa.DateTime(), sa.DateTime(timezone=True)),
        (sa.Text(), postgresql.CITEXT()),
        (sa.Text(), sa.Text(collation="C")),
        (sa.Uuid(), sa.Text()),
        (sa.Text(), postgresql.ENUM("a", name="kind")),
        (postgresql.ENUM("a", name="kind"), sa.Text()),
    ],
)
def test_no_loss(before: TypeEngine[Any], after: TypeEngine[Any]) -> None:
    assert lost(before, after) == ""
