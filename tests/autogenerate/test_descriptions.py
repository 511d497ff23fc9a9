"""Whatever PostgreSQL stores of a table, a column, an index, a constraint or a sequence: a difference is seen."""

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import URL, CheckConstraint, Column, Connection, Index, MetaData, Table, UniqueConstraint, text
from sqlalchemy.dialects import postgresql

from safe_migrations.autogenerate.description_comparison import not_compared
from safe_migrations.autogenerate.directives import find_operations, plan
from safe_migrations.autogenerate.plugin import PLUGINS
from safe_migrations.errors import MigrationError
from support import NewRole, fetch, on

IS_ON = text("state = 'on'")
NAMES = re.compile(r"\b(box|item|kind|count|event|receipt|uq|ck|ex|fk|ix|ux|iy)(?=_|\b)")


def models(*more: Any) -> MetaData:
    """The models of these tests, with more columns or constraints of the table `item`."""
    metadata = MetaData()
    add_items(metadata, "", *more)
    add_others(metadata, "")
    return metadata


def add_items(metadata: MetaData, copy: str, *more: Any) -> None:
    """Add the tables with constraints; `copy` follows the names of tables, types, indexes and constraints."""
    box, item = f"box{copy}", f"item{copy}"
    Table(box, metadata, Column("a", sa.Integer, primary_key=True), Column("b", sa.Integer, primary_key=True))
    Table(
        item,
        metadata,
        Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        Column("code", sa.String(50), nullable=False, server_default="x"),
        Column("state", sa.Enum("on", "off", name=f"kind{copy}"), server_default="on"),
        Column("a", sa.Integer),
        Column("b", sa.Integer, comment="of the box"),
        Column("total", sa.Integer, sa.Computed("a + b", persisted=True)),
        Column("token", sa.String, server_default=text("substr(md5(random()::text), 1, 8)")),
        Column("data", sa.JSON, server_default="[]"),
        UniqueConstraint("code", name=f"uq{copy}", comment="one a code"),
        CheckConstraint("code IN ('x', 'y')", name=f"ck{copy}"),
        postgresql.ExcludeConstraint(("b", "="), name=f"ex{copy}", using="btree"),
        sa.ForeignKeyConstraint(["a", "b"], [f"{box}.a", f"{box}.b"], name=f"fk{copy}", ondelete="CASCADE"),
        Index(f"ix{copy}", "a", text("lower(code) DESC"), postgresql_include=["b"], postgresql_where=IS_ON),
        Index(f"ux{copy}", "b", unique=True),
        Index(f"iy{copy}", "code"),
        *more,
        comment="what is sold",
    )


def add_others(metadata: MetaData, copy: str) -> None:
    """Add the tables and the sequence of another kind."""
    Table(f"count{copy}", metadata, Column("id", sa.BigInteger, primary_key=True))  # with a sequence
    Table(f"event{copy}", metadata, Column("at", sa.Date), postgresql_partition_by="RANGE (at)")
    sa.Sequence(f"receipt{copy}", start=1000, metadata=metadata)


def change(connection: Connection, metadata: MetaData, statements: Sequence[str]) -> MigrationContext:
    """Change the database, and return what compares it with models."""
    for statement in statements:
        connection.execute(text(statement.replace(":", r"\:")))
    options = {"target_metadata": metadata, "compare_server_default": True, "autogenerate_plugins": PLUGINS}
    return MigrationContext.configure(connection, opts=options)


def differences(metadata: MetaData, *statements: str) -> Callable[[Connection], tuple[list[Any], tuple[str, ...]]]:
    """What `alembic check` reports after some statements, and what was not compared; all is undone."""

    def compare(connection: Connection) -> tuple[list[Any], tuple[str, ...]]:
        context = change(connection, metadata, statements)
        diffs = compare_metadata(context, metadata)
        connection.rollback()
        return diffs, not_compared(context)

    return compare


@pytest.fixture(scope="module")
def shared(server: URL, administrator: Any) -> Iterator[URL]:
    """A database with the models, which no test changes."""
    name = f"database_{uuid4().hex}"
    administrator.create(name)
    url = server.set(database=name)

    on(url, create, models())
    yield url
    administrator.drop(name)


def create(connection: Connection, metadata: MetaData) -> None:
    metadata.create_all(connection)
    connection.commit()


def again(table: str, name: str, definition: str) -> str:
    """A constraint in another form."""
    return f"ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {definition}"


CHANGES = {
    "type": "ALTER TABLE item ALTER code TYPE varchar(60)",
    "collation": 'ALTER TABLE item ALTER code TYPE varchar(50) COLLATE "C"',
    "not null": "ALTER TABLE item ALTER code DROP NOT NULL",
    "default": "ALTER TABLE item ALTER code SET DEFAULT 'z'",
    "no default": "ALTER TABLE item ALTER code DROP DEFAULT",
    "volatile default": "ALTER TABLE item ALTER token SET DEFAULT substr(md5(random()::text), 1, 9)",
    "JSON default": "ALTER TABLE item ALTER data SET DEFAULT '{}'",
    "default of an enum": "ALTER TABLE item ALTER state SET DEFAULT 'off'",
    "comment": "COMMENT ON COLUMN item.b IS 'other'",
    "identity": "ALTER TABLE item ALTER id SET GENERATED ALWAYS",
    "cache of an identity": "ALTER TABLE item ALTER id SET CACHE 5",
    "no identity": "ALTER TABLE item ALTER id DROP IDENTITY",
    "no serial": "ALTER TABLE count ALTER id DROP DEFAULT",
    "type of a serial": "ALTER SEQUENCE count_id_seq AS integer",
    "no sequence": "DROP SEQUENCE receipt",
    "start of a sequence": "ALTER SEQUENCE receipt START 1",
    "not computed": "ALTER TABLE item ALTER total DROP EXPRESSION",
    "expression": "ALTER TABLE item DROP total, ADD total integer GENERATED ALWAYS AS (a * b) STORED",
    "index: predicate": "DROP INDEX ix; CREATE INDEX ix ON item (a, lower(code) DESC) INCLUDE (b)",
    "index: include": "DROP INDEX ix; CREATE INDEX ix ON item (a, lower(code) DESC) WHERE state = 'on'",
    "index: order": "DROP INDEX ix; CREATE INDEX ix ON item (a, lower(code)) INCLUDE (b) WHERE state = 'on'",
    "index: method": "DROP INDEX ux; CREATE INDEX ux ON item USING hash (b)",
    "index: uniqueness": "DROP INDEX ux; CREATE INDEX ux ON item (b)",
    "index: NULL": "DROP INDEX ux; CREATE UNIQUE INDEX ux ON item (b) NULLS NOT DISTINCT",
    "index: nulls first": "DROP INDEX ux; CREATE UNIQUE INDEX ux ON item (b NULLS FIRST)",
    "index: fill factor": "ALTER INDEX ux SET (fillfactor = 50)",
    "index: operator class": "DROP INDEX iy; CREATE INDEX iy ON item (code text_pattern_ops)",
    "unique: deferrable": again("item", "uq", "UNIQUE (code) DEFERRABLE"),
    "unique: include": again("item", "uq", "UNIQUE (code) INCLUDE (a)"),
    "unique: NULL": again("item", "uq", "UNIQUE NULLS NOT DISTINCT (code)"),
    "unique: comment": "COMMENT ON CONSTRAINT uq ON item IS NULL",
    "unique: an index": "ALTER TABLE item DROP CONSTRAINT uq; CREATE UNIQUE INDEX uq ON item (code)",
    "foreign key: match": again("item", "fk", "FOREIGN KEY (a, b) REFERENCES box MATCH FULL ON DELETE CASCADE"),
    "foreign key: delete": again("item", "fk", "FOREIGN KEY (a, b) REFERENCES box ON DELETE SET NULL (a)"),
    "foreign key: deferrable": "ALTER TABLE item ALTER CONSTRAINT fk DEFERRABLE INITIALLY DEFERRED",
    "foreign key: not valid": again("item", "fk", "FOREIGN KEY (a, b) REFERENCES box ON DELETE CASCADE NOT VALID"),
    "check: text": again("item", "ck", "CHECK (code IN ('x', 'z'))"),
    "check: not valid": again("item", "ck", "CHECK (code IN ('x', 'y')) NOT VALID"),
    "exclusion": again("item", "ex", "EXCLUDE USING btree (a WITH =)"),
    "no exclusion": "ALTER TABLE item DROP CONSTRAINT ex",
    "primary key": again("box", "box_pkey", "PRIMARY KEY (b, a)").replace("box_pkey,", "box_pkey CASCADE,"),
    "comment of a table": "COMMENT ON TABLE item IS NULL",
    "unlogged": "ALTER TABLE count SET UNLOGGED",
    "partition key": "DROP TABLE event; CREATE TABLE event (at date) PARTITION BY LIST (at)",
    "inheritance": "CREATE TABLE base (id bigint NOT NULL); ALTER TABLE count INHERIT base",
    "enum": "ALTER TYPE kind RENAME VALUE 'off' TO 'out'",
}


SAME = {
    "as created": (),
    "restored from a dump": (
        again("item", "ck", "CHECK (code::text = ANY (ARRAY[('x'::varchar)::text, ('y'::varchar)::text]))"),
    ),
    "literal of another type": ("ALTER TABLE item ALTER code SET DEFAULT 'x'::text",),
    "names": ("ALTER TABLE item RENAME CONSTRAINT item_pkey TO pk", "ALTER SEQUENCE count_id_seq RENAME TO numbers"),
    "the operator's": (
        "ALTER TABLE item SET (autovacuum_enabled = off, fillfactor = 90)",
        "ALTER TABLE item ENABLE ROW LEVEL SECURITY, REPLICA IDENTITY FULL, ALTER code SET STATISTICS 500",
        "CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler",
        "ALTER TABLE count SET ACCESS METHOD other",
        "CREATE TABLE event_2026 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    ),
}


def test_each_change_is_seen_and_what_is_the_same_is_not(database: URL) -> None:
    """Each change by SQL, which no revision knows, is that of a copy of the models of its own."""
    cases = {**{name: statements.split("; ") for name, statements in CHANGES.items()}, **SAME}
    metadata, statements = MetaData(), list[str]()
    for number, of_case in enumerate(cases.values()):
        of_others = re.search("count|event|receipt", " ".join(of_case)) is not None
        if of_others:
            add_others(metadata, f"_{number}")
        if not of_others or "item" in " ".join(of_case):
            add_items(metadata, f"_{number}")
        statements += [NAMES.sub(rf"\g<1>_{number}", statement) for statement in of_case]
    on(database, create, metadata)
    diffs, unknown = on(database, differences(metadata, *statements))
    assert not unknown
    numbers = set(re.findall(r"\b(?:box|item|kind|count|event|receipt)_(\d+)\b", str(diffs)))
    assert [name for number, name in enumerate(cases) if str(number) in numbers] == list(CHANGES)


def test_what_can_t_be_made_is_named(shared: URL) -> None:
    """The other tables are compared, and nothing is left."""
    missing = Column("size", sa.Integer, server_default=text("nothing_of_this_name()"))
    diffs, unknown = on(shared, differences(models(missing), "ALTER TABLE count SET UNLOGGED"))
    (what,) = (description for description in unknown if description.startswith("item "))
    assert "nothing_of_this_name" in what
    assert any("UNLOGGED" in str(diff) for diff in diffs)
    assert fetch(shared, "SELECT FROM pg_namespace WHERE nspname LIKE 'safe%'") == []


def test_what_could_not_be_compared_is_named(shared: URL, new_role: NewRole) -> None:
    """Where nothing can be written, or the user may not create a schema."""
    fetch(shared, "GRANT USAGE ON SCHEMA public TO public")
    user = shared.set(username=new_role("LOGIN", "secret"), password="secret")
    for url, statements in ((user, ()), (shared, ("SET TRANSACTION READ ONLY",))):
        diffs, unknown = on(url, differences(models(), *statements))
        assert not diffs
        assert all(name in unknown[0] for name in ("item", "box", "count", "event", "receipt"))


def test_no_table_gets_a_stronger_lock_than_a_query_needs(shared: URL) -> None:
    """Another session holds a lock that is compatible with that of a query alone."""

    def compare_beside(holder: Connection) -> Any:
        for table in ("item", "box", "count", "event"):
            holder.execute(text(f"LOCK {table} IN EXCLUSIVE MODE"))
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(on, shared, differences(models())).result()

    assert on(shared, compare_beside) == ([], ())


@pytest.mark.parametrize("name", ["unlogged", "partition key", "inheritance"])
def test_what_has_no_safe_form_is_refused_by_name(shared: URL, name: str) -> None:
    """The message says what differs, on both sides."""

    def write(connection: Connection) -> None:
        context = change(connection, models(), CHANGES[name].split("; "))
        plan(context, find_operations(context))

    with pytest.raises(MigrationError, match=r"count|event"):
        on(shared, write)
