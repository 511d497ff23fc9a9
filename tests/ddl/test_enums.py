"""Enums: made and dropped once, and changed without a harm that nobody has agreed to."""

import enum
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import produce_migrations, render_op_text
from alembic.autogenerate.api import AutogenContext
from alembic.migration import MigrationContext
from alembic.operations import MigrateOperation, Operations, ops
from sqlalchemy import URL, Column, Connection, Enum, Integer, MetaData, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError

from safe_migrations.autogenerate import rendering
from safe_migrations.autogenerate.column_types import managed_columns
from safe_migrations.autogenerate.enum_comparison import REPLACED, VALUES_ADDED, EnumChange, enum_changes
from safe_migrations.autogenerate.named_types import CREATED, DROPPED
from safe_migrations.ddl import enums
from safe_migrations.errors import MigrationError
from safe_migrations.postgres.connection import connected, run_async
from support import at, fetch, on

assert enums and rendering, "the operations, and their form in a file, are known to Alembic"

VALUES = "SELECT enumlabel FROM pg_enum WHERE enumtypid = CAST(:name AS regtype) ORDER BY enumsortorder"
TYPES = "SELECT oid::regtype::text FROM pg_type WHERE typtype = 'e' ORDER BY 1"
PREFIXES = {"sqlalchemy_module_prefix": "sa.", "alembic_module_prefix": "op.", "user_module_prefix": None}


@dataclass
class Step:
    """A revision, as Python."""

    upgrade: str
    downgrade: str


def in_transactions(database: URL, *functions: Callable[[Connection], Any]) -> list[Any]:
    """What they return; nothing is left of one that fails."""

    async def run() -> list[Any]:
        async with connected(at(database)) as connection:
            results = []
            for function in functions:
                async with connection.begin():
                    results.append(await connection.run_sync(function))
            return results

    return run_async(run())


def revision(piece: str) -> Callable[[Connection], None]:
    """What a file with this piece does."""

    def execute(connection: Connection) -> None:
        with Operations.context(MigrationContext.configure(connection)) as op:
            exec(piece, {"op": op, "sa": sa})  # noqa: S102

    return execute


def run(database: URL, *pieces: str) -> None:
    """Each as a revision does it."""
    in_transactions(database, *map(revision, pieces))


def offline(piece: str) -> str:
    """What a revision does, as SQL."""
    output = io.StringIO()
    context = MigrationContext.configure(
        url="postgresql+asyncpg://",
        dialect_opts={"paramstyle": "named"},
        opts={"as_sql": True, "output_buffer": output},
    )
    with Operations.context(context) as op:
        exec(piece, {"op": op, "sa": sa})  # noqa: S102
    return output.getvalue()


def run_script(database: URL, sql: str) -> None:
    """Several statements, in one transaction."""

    async def run() -> None:
        async with connected(at(database)) as connection:
            raw = await connection.get_raw_connection()
            await raw.driver_connection.execute(sql)  # type: ignore[union-attr]

    run_async(run())


def comparison(models: MetaData, **options: Any) -> Callable[[Connection], tuple[list[Step], list[EnumChange]]]:
    """What autogenerate would write, and what becomes of the enums."""

    def compare(connection: Connection) -> tuple[list[Step], list[EnumChange]]:
        context = MigrationContext.configure(connection, opts={"target_metadata": models, **PREFIXES, **options})
        autogenerate = AutogenContext(context, models)
        up, down = produced(context, models)
        changes = enum_changes(autogenerate, up.ops)
        managed_columns(up)
        managed_columns(down)
        first = [change for change in changes if change.kind in (CREATED, VALUES_ADDED)]
        last = [change for change in changes if change not in first]
        pairs: list[tuple[Sequence[MigrateOperation], Sequence[MigrateOperation]]] = [
            *((change.upgrade, change.downgrade) for change in first),
            (up.ops, down.ops),
            *((change.upgrade, change.downgrade) for change in last),
        ]
        return [Step(render(autogenerate, up), render(autogenerate, down)) for up, down in pairs if up], changes

    return compare


def produced(context: MigrationContext, models: MetaData) -> tuple[ops.UpgradeOps, ops.DowngradeOps]:
    """What Alembic's autogenerate finds by itself."""
    script = produce_migrations(context, models)
    assert script.upgrade_ops is not None
    assert script.downgrade_ops is not None
    return script.upgrade_ops, script.downgrade_ops


def find(database: URL, models: MetaData, **options: Any) -> tuple[list[Step], list[EnumChange]]:
    result: tuple[list[Step], list[EnumChange]]
    (result,) = in_transactions(database, comparison(models, **options))
    return result


def render(context: AutogenContext, operations: Sequence[MigrateOperation]) -> str:
    lines = [
        render_op_text(context, inner)
        for operation in operations
        for inner in (operation.ops if isinstance(operation, ops.OpContainer) else [operation])
    ]
    return "\n".join([*sorted(context.imports), *lines])


def upgrade(database: URL, models: MetaData, **options: Any) -> list[EnumChange]:
    """Up, down, up; the database is as the models are."""
    steps, changes = find(database, models, **options)
    ups = [revision(step.upgrade) for step in steps]
    downs = [revision(step.downgrade) for step in reversed(steps)]
    *_, left = in_transactions(database, *ups, *downs, *ups, comparison(models, **options))
    assert left == ([], [])
    return changes


def make(database: URL, models: MetaData) -> None:
    """Make the tables and enums of models, as they are before what is tested."""
    on(database, models.create_all, isolation_level="AUTOCOMMIT")


def status(*values: str, **options: Any) -> Enum:
    return Enum(*values, name="status", **options)


def item(type_: Any, *more: Any, metadata: MetaData | None = None, name: str = "item", **options: Any) -> MetaData:
    """Models with a table that has a column of this type."""
    metadata = metadata or MetaData()
    Table(name, metadata, Column("id", Integer, primary_key=True), Column("status", type_, **options), *more)
    return metadata


def values(database: URL, name: str = "status") -> list[str]:
    return [row.enumlabel for row in fetch(database, VALUES, name=name)]


def types(database: URL) -> list[str]:
    return [row[0] for row in fetch(database, TYPES)]


def test_stock_autogenerate_fails_on_the_second_way_up(database: URL) -> None:
    models = item(status("a", "b"))

    def stock(connection: Connection) -> Step:
        context = MigrationContext.configure(connection, opts=PREFIXES)
        autogenerate = AutogenContext(context, models)
        up, down = produced(context, models)
        return Step(render(autogenerate, up.ops), render(autogenerate, down.ops))

    (step,) = in_transactions(database, stock)
    run(database, step.upgrade, step.downgrade)
    with pytest.raises(DBAPIError, match='type "status" already exists'):
        run(database, step.upgrade)


class Colour(enum.Enum):
    """With other names than values."""

    RED = "red"
    BLUE = "blue"


class Decorated(sa.TypeDecorator[str]):
    """A type of the service's own."""

    impl = Enum("a", "b", name="decorated")
    cache_ok = True


# By the name of their enum.
KINDS: dict[str, Any] = {
    "plain": Enum("a", "b", name="plain"),
    "native": postgresql.ENUM("a", "b", name="native"),
    "created_elsewhere": postgresql.ENUM("a", "b", name="created_elsewhere", create_type=False),
    "several": sa.ARRAY(Enum("a", "b", name="several")),
    "dimensions": postgresql.ARRAY(Enum("a", "b", name="dimensions"), dimensions=1),
    "variant": sa.String().with_variant(Enum("a", "b", name="variant"), "postgresql"),
    "decorated": Decorated(),
}


def test_tables_with_enums(database: URL) -> None:
    models = MetaData()
    for name, type_ in KINDS.items():
        item(type_, metadata=models, name=f"with_{name}")
    changes = {change.name: change for change in upgrade(database, models)}
    assert {(change.name, change.kind) for change in changes.values()} == {(name, CREATED) for name in KINDS}
    assert {(change.schema, change.acknowledged) for change in changes.values()} == {(None, None)}
    assert [name for name in KINDS if values(database, name) != ["a", "b"]] == []
    changes = {change.name: change for change in upgrade(database, MetaData())}
    assert {(change.name, change.kind) for change in changes.values()} == {(name, DROPPED) for name in KINDS}
    assert types(database) == []


def test_how_it_is_written(database: URL) -> None:
    colour = Enum(Colour, values_callable=lambda members: [member.value for member in members])
    (create, table), _ = find(database, item(colour, Column("several", sa.ARRAY(colour, dimensions=2))))
    assert create == Step("op.create_enum('colour', ['red', 'blue'])", "op.drop_enum('colour')")
    assert table.upgrade.startswith("from sqlalchemy.dialects import postgresql\n")
    written = "postgresql.ENUM('red', 'blue', name='colour', create_type=False)"
    assert f"'status', {written}," in table.upgrade
    assert f"'several', postgresql.ARRAY({written}, dimensions=2)," in table.upgrade


def test_the_models_stay_as_they_are() -> None:
    models = item(status("a", "b"))
    table, objects = models.tables["item"], set(models._objects)
    column = table.c.status
    type_ = column.type
    managed_columns(ops.CreateTableOp.from_table(table))
    managed_columns(ops.ModifyTableOps("item", [ops.AddColumnOp.from_column_and_tablename(None, "item", column)]))
    assert table.c.status is column
    assert column.type is type_
    assert "create_type" not in repr(type_)
    assert models._objects == objects
    restore = ops.DropTableOp.from_table(table).reverse()
    managed_columns(restore)
    assert "create_type=False" in repr(restore.to_table().c.status.type)


def test_the_operations_create_no_type_themselves(database: URL) -> None:
    """Those of autogenerate, as they are, without a file."""
    models = item(status("a", "b"))

    def create(connection: Connection) -> None:
        context = MigrationContext.configure(connection)
        up, _ = produced(context, models)
        managed_columns(up)
        with Operations.context(context) as op:
            for operation in up.ops:
                op.invoke(operation)

    with pytest.raises(DBAPIError, match='type "status" does not exist'):
        in_transactions(database, create)


def test_two_tables_share_it(database: URL) -> None:
    shared = status("a", "b")
    models = item(status("a", "b"), metadata=item(shared), name="other")
    (change,) = upgrade(database, models)
    assert change.kind == CREATED
    assert upgrade(database, item(shared)) == []
    assert types(database) == ["status"]


def test_a_new_column(database: URL) -> None:
    make(database, item(sa.String()))
    more: Column[str] = Column("colour", Enum("red", name="colour"), server_default="red", nullable=False)
    (change,) = upgrade(database, item(sa.String(), more))
    assert change.kind == CREATED
    (change,) = upgrade(database, item(sa.String()))
    assert change.kind == DROPPED


def test_another_type(database: URL) -> None:
    make(database, item(status("a")))
    steps, changes = find(database, item(Enum("a", name="state")))
    assert [(change.kind, change.name) for change in changes] == [(CREATED, "state"), (DROPPED, "status")]
    assert "existing_type=postgresql.ENUM('a', name='status', create_type=False)" in steps[1].upgrade
    assert "type_=postgresql.ENUM('a', name='state', create_type=False)" in steps[1].upgrade


PLACES = [("ab", "abc"), ("ab", "cab"), ("ab", "acb"), ("ad", "abcd"), ("c", "abcde"), ("bd", "abcde"), ("", "ab")]


def test_values_are_added_in_their_places(database: URL) -> None:
    def models(state: int) -> MetaData:
        return item(sa.String(), *(Column(f"c{i}", Enum(*pair[state], name=f"e{i}")) for i, pair in enumerate(PLACES)))

    make(database, models(0))
    fetch(database, "INSERT INTO item (id, c0) VALUES (1, 'a')")
    changes = upgrade(database, models(1))
    assert {(change.kind, change.acknowledged, len(change.downgrade)) for change in changes} == {
        (VALUES_ADDED, None, 0)
    }
    assert [values(database, change.name) for change in changes] == [list(after) for _, after in PLACES]
    assert "'c'" in changes[0].downgrade_comment[0]


def test_a_value_is_removed(database: URL) -> None:
    make(database, item(status("a", "b", "c")))
    fetch(database, "INSERT INTO item VALUES (1, 'a'), (2, 'c')")
    steps, (change,) = find(database, item(status("a", "b")))
    assert change.kind == REPLACED
    assert change.acknowledged and {"'c'", "status", "item"} <= set(re.split(r"[ ,]+", change.acknowledged))
    with pytest.raises(DBAPIError, match='invalid input value for enum status: "c"'):
        run(database, steps[0].upgrade)
    assert values(database) == ["a", "b", "c"]
    assert types(database) == ["status"]
    fetch(database, "UPDATE item SET status = 'a' WHERE status = 'c'")
    upgrade(database, item(status("a", "b")))
    assert [row.status for row in fetch(database, "SELECT status FROM item")] == ["a", "a"]


def test_the_order_changes(database: URL) -> None:
    """Of a column with an index, and in a table that has others below it."""
    make(database, item(status("a", "b"), index=True))
    fetch(database, "CREATE TABLE child () INHERITS (item)")

    def include(_object: object, name: str | None, *_: object) -> bool:
        return name != "child"

    (change,) = upgrade(database, item(status("b", "a"), index=True), include_object=include)
    assert change.acknowledged and {"order", "status", "item"} <= set(re.split(r"[ ;]+", change.acknowledged))


DEPENDENTS = """
SELECT format('%s %s', adrelid::regclass, pg_get_expr(adbin, adrelid)) FROM pg_attrdef WHERE adrelid > 16383
UNION ALL SELECT format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
FROM pg_constraint WHERE conrelid > 16383
UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
ORDER BY 1
"""
WITH_DEPENDENTS = """
CREATE TYPE status AS ENUM ('a', 'b', 'c');
CREATE TABLE item (
    id int PRIMARY KEY, status status NOT NULL DEFAULT 'a', former status, tags status[] DEFAULT '{a,b}',
    label text DEFAULT 'a'::status, during int4range,
    CONSTRAINT one CHECK (status <> 'b' OR id > 0), CONSTRAINT two CHECK (status = ANY (tags)),
    CONSTRAINT "both" CHECK (status <> former),
    CONSTRAINT apart EXCLUDE USING gist (during WITH &&) WHERE (status = 'a')
);
ALTER TABLE item ADD CONSTRAINT later CHECK (former <> 'a') NOT VALID;
CREATE UNIQUE INDEX plain ON item (status, id);
CREATE INDEX partial ON item (id) WHERE status = 'a';
CREATE INDEX "An expression" ON item ((status = 'b'));
CREATE TABLE part (id int, status status DEFAULT 'b', CHECK (status <> 'a')) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (1) TO (9);
CREATE INDEX ON part (status);
ALTER TABLE part_1 ALTER status DROP DEFAULT;
CREATE TABLE parent (status status DEFAULT 'a', CHECK (status <> 'b'));
CREATE TABLE child (i int) INHERITS (parent);
INSERT INTO item VALUES (1, 'a', 'b', '{b,a}', 'a', '[1,2)');
INSERT INTO part VALUES (1, 'b'), (2, NULL);
INSERT INTO child VALUES ('a', 1);
"""
COLUMNS = "[('item', 'status'), ('item', 'former'), ('item', 'tags'), ('part', 'status'), ('parent', 'status')]"


@pytest.mark.parametrize("way", ["online", "offline"])
def test_what_names_a_value_is_kept(database: URL, way: str) -> None:
    run_script(database, WITH_DEPENDENTS)
    before = fetch(database, DEPENDENTS)
    piece = f"op.replace_enum('status', ['b', 'a'], columns={COLUMNS})"
    if way == "online":
        run(database, piece)
    else:
        run_script(database, offline(piece))
    assert values(database) == ["b", "a"]
    assert types(database) == ["status"]
    assert fetch(database, DEPENDENTS) == before
    (row,) = fetch(database, "SELECT status::text, former::text, tags::text FROM item")
    assert tuple(row) == ("a", "b", "{b,a}")
    assert [row.status for row in fetch(database, "SELECT status FROM part ORDER BY id")] == ["b", None]


# What depends on a type or its table, with the type's name in the place of $.
FAILURES = {
    "of_view": ("CREATE VIEW v AS SELECT status FROM with_$", "used by a view"),
    "of_function": ("CREATE FUNCTION f($) RETURNS int LANGUAGE sql AS 'SELECT 1'", "other objects depend on it"),
    "of_table": ("CREATE TABLE other (status $)", "other objects depend on it"),
    "of_default": ("ALTER TABLE with_$ ALTER status SET DEFAULT 'c'", 'invalid input value for enum of_default: "c"'),
    "of_check": ("ALTER TABLE with_$ ADD CHECK (status <> 'c')", 'invalid input value for enum of_check: "c"'),
}


def test_a_replacement_that_fails_changes_nothing(database: URL) -> None:
    made = "CREATE TYPE $ AS ENUM ('a', 'c'); CREATE TABLE with_$ (status $ DEFAULT 'a' CHECK (status <> 'a')); "
    run_script(
        database, "; ".join(f"{made}{dependent}".replace("$", name) for name, (dependent, _) in FAILURES.items())
    )
    before = fetch(database, DEPENDENTS)
    for name, (_, message) in FAILURES.items():
        with pytest.raises(DBAPIError, match=message):
            run(database, f"op.replace_enum('{name}', ['a'], columns=[('with_{name}', 'status')])")
    assert fetch(database, DEPENDENTS) == before
    assert [name for name in FAILURES if values(database, name) != ["a", "c"]] == []
    assert types(database) == sorted(FAILURES)


def test_a_removal_along_with_other_changes(database: URL) -> None:
    """Columns that go need no conversion, and those that come get the new type."""
    type_ = status("a", "b")
    make(database, item(type_, Column("gone", type_), metadata=item(type_, name="dropped")))
    fetch(database, "INSERT INTO item VALUES (1, 'a', 'b')")
    type_ = status("a", "c")
    come: Column[Any] = Column("come", type_, server_default="a")
    add, replace = upgrade(database, item(type_, come, metadata=item(type_, name="made")))
    assert add.kind == VALUES_ADDED
    assert isinstance(replace.upgrade[0], enums.ReplaceEnumOp)
    assert replace.upgrade[0].columns == [("item", "status"), ("made", "status"), ("item", "come")]


def test_names_that_need_quotes(database: URL) -> None:
    odd = 'it\'s "odd" %s :x $replace_enum$'
    upgrade(database, item(Enum("a", odd, name="My Status"), name='My "t".able'))
    upgrade(database, item(Enum(f"{odd}!", "a", odd, name="My Status"), name='My "t".able'))
    upgrade(database, item(Enum(odd, name="My Status"), name='My "t".able', server_default=sa.text("NULL")))
    assert values(database, '"My Status"') == [odd]


def test_schemas(database: URL) -> None:
    """One of the metadata, and one of a type."""
    fetch(database, "CREATE SCHEMA s")
    fetch(database, "CREATE SCHEMA t")
    for labels in ("ab", "xaby", "a"):
        other: Column[Any] = Column("other", sa.ARRAY(Enum(*labels, name="other", schema="t")))
        changes = upgrade(database, item(status(*labels), other, metadata=MetaData(schema="s")), include_schemas=True)
        assert {(change.schema, change.name) for change in changes} == {("s", "status"), ("t", "other")}
    assert {change.upgrade[0].columns[0][0] for change in changes} == {"s.item"}
    upgrade(database, MetaData(), include_schemas=True)
    assert types(database) == []


def test_the_search_path(database: URL) -> None:
    """A type is found there, as a table is, but made in the first schema."""
    fetch(database, "CREATE SCHEMA s")
    fetch(database, "CREATE TYPE status AS ENUM ('a')")
    (row,) = fetch(database, "SELECT quote_ident(current_database())")
    fetch(database, f"ALTER DATABASE {row[0]} SET search_path = s, public")
    (change,) = upgrade(database, item(status("a", "b")))
    assert change.kind == VALUES_ADDED
    (change,) = upgrade(database, MetaData())
    assert (change.kind, change.schema) == (DROPPED, None)
    assert types(database) == []


def test_offline_equals_online(database: URL) -> None:
    run_script(
        database,
        offline(
            "op.create_enum('status', ['a', 'b'])\n"
            "op.add_enum_value('status', 'c', before='a')\n"
            "op.add_enum_value('status', 'd', after='c')\n"
            "op.add_enum_value('status', 'd')\n"
            "op.create_enum('other', [])\n"
            "op.drop_enum('other')"
        ),
    )
    assert values(database) == ["c", "d", "a", "b"]
    assert types(database) == ["status"]


def test_what_is_not_the_models_is_left_alone(database: URL) -> None:
    fetch(database, "CREATE TYPE foreign_status AS ENUM ('a')")
    fetch(database, "CREATE TYPE status AS ENUM ('a')")
    fetch(database, "CREATE VIEW v AS SELECT CAST('a' AS status) AS status")
    upgrade(database, item(status("a")))
    assert find(database, item(status("a", native_enum=False)))[1] == []
    upgrade(database, MetaData())
    assert types(database) == ["foreign_status", "status"]


def test_what_is_filtered_out_is_left_alone(database: URL) -> None:
    make(database, item(status("a", "b")))

    def include(_object: object, name: str | None, *_: object) -> bool:
        return name not in ("item", "hidden")

    models = item(sa.String(), Column("hidden", Enum("a", name="other")), metadata=item(status("a")), name="more")
    _, changes = find(database, models, include_object=include)
    assert changes == []


def test_models_that_contradict_themselves(database: URL) -> None:
    with pytest.raises(MigrationError, match=r"status .*other\.status"):
        find(database, item(status("b"), metadata=item(status("a")), name="other"))
    with pytest.raises(MigrationError, match=r"item\.status"):
        find(database, item(Enum("a", "b")))
