"""What autogenerate writes for a column or a table that something else depends on."""

import re
from pathlib import Path

import pytest
from alembic import command
from alembic.migration import MigrationContext
from alembic.script import Script
from sqlalchemy import URL, Connection, MetaData

from alembic_in_process import Inside, schema
from safe_migrations.autogenerate.directives import find_operations, plan
from safe_migrations.autogenerate.plan import PlannedRevision
from safe_migrations.autogenerate.rendering import Comment
from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.upgrade.phases import CONTRACT, EXPAND, phase_of, unacknowledged
from support import Render, at, fetch

COLUMNS = {
    "name": "sa.String(20)",
    "price": "sa.Integer",
    "area": "sa.Integer",
    "status": 'sa.Enum("a", "b", "c", name="status")',
    "double": 'sa.Integer, sa.Computed("area * 2", persisted=True)',
}
VIEWS = (
    "CREATE VIEW z AS SELECT id, name FROM item",
    "CREATE VIEW a AS SELECT upper(name) AS name FROM z",
    "CREATE VIEW recent AS SELECT id, status FROM item WHERE status <> 'c'",
    'CREATE VIEW "pri\nces" AS SELECT price FROM item',  # which must not end the comment that names the view
)
PRICES = r'view public."pri\nces"'
DEFINITIONS = """
    SELECT viewname, definition, obj_description(quote_ident(viewname)::regclass)
    FROM pg_views WHERE schemaname = 'public'
    ORDER BY viewname
"""


def models(**columns: str | None) -> str:
    lines = [f'sa.Column("{name}", {type_})' for name, type_ in {**COLUMNS, **columns}.items() if type_]
    return f'sa.Table("item", Base.metadata, sa.Column("id", sa.BigInteger, primary_key=True), {", ".join(lines)})\n'


@pytest.fixture
def inside(render: Render, database: URL) -> Inside:
    """A service with a table, its rows, and views."""
    inside = Inside(render(), database)
    inside.begin(models())
    for statement in (*VIEWS, "COMMENT ON VIEW a IS 'kept'", "INSERT INTO item VALUES (1, 'x', 2, 3)"):
        fetch(database, statement)
    return inside


def text(script: Script) -> str:
    return Path(script.path).read_text()


def test_views_are_created_again(inside: Inside, database: URL) -> None:
    """Around a type of the same form, a type that rewrites the table, and the replacement of an enum."""
    before, views = schema(database), fetch(database, DEFINITIONS)
    inside.write_models(models(name="sa.String(50)", price="sa.BigInteger", status='sa.Enum("c", "a", name="status")'))
    written = inside.autogenerate("longer names, higher prices, less statuses")
    assert [phase_of(script) for script in written] == [EXPAND, CONTRACT]
    assert [bool(unacknowledged(script)) for script in written] == [False, True]
    assert re.findall(r"# - (.*)", text(written[0])) == ["view public.z", "view public.a"]
    inside.upgrade("head", str)
    assert inside.lint(written) == []
    inside.alembic(command.check)
    assert fetch(database, DEFINITIONS) == views
    inside.alembic(command.downgrade, "start", x=["yes"])
    assert (schema(database), fetch(database, DEFINITIONS)) == (before, views)
    inside.alembic(command.upgrade, "head")
    assert fetch(database, DEFINITIONS) == views


# A change of the model, what else depends on it, and what the question names.
QUESTIONS: dict[str, tuple[dict[str, str | None], str, list[str]]] = {
    "view_of_view": ({"name": None}, "SELECT 1", ["view public.z", "view public.a"]),
    "materialized": (
        {"name": "sa.String(50)"},
        "CREATE MATERIALIZED VIEW m AS SELECT * FROM a",
        ["view public.z", "view public.a", "materialized view public.m"],
    ),
    "computed": ({"area": "sa.BigInteger"}, "SELECT 1", ["default value for public.item.double"]),
    "column": ({"price": None}, "SELECT 1", [PRICES]),
    "base": ({"area": None, "double": "sa.Integer"}, "SELECT 1", ["default value for public.item.double"]),
    "policy": (
        {"price": "sa.BigInteger"},
        "CREATE POLICY p ON item USING (price > 0)",
        ["policy p on public.item", PRICES],
    ),
}


def planned(database: URL, metadata: MetaData) -> list[PlannedRevision]:
    """The revisions that autogenerate would write."""

    def read(connection: Connection) -> list[PlannedRevision]:
        migration = MigrationContext.configure(connection, opts={"target_metadata": metadata})
        return plan(migration, find_operations(migration))[0]

    async def run() -> list[PlannedRevision]:
        async with connected(at(database)) as connection:
            return await connection.run_sync(read)

    return run_async(run())


def listed(revision: PlannedRevision) -> list[str]:
    """What a question names."""
    operations = (operation for change in revision.changes for operation in change.upgrade)
    comments = [operation.text for operation in operations if isinstance(operation, Comment)]
    return [comment[2:] for comment in comments if comment.startswith("- ")]


def test_other_dependents_are_the_decision_of_the_author(inside: Inside, database: URL) -> None:
    for name, (columns, statement, names) in QUESTIONS.items():
        fetch(database, statement)
        revision, *_ = planned(database, inside.write_models(models(**columns)))
        assert sorted(listed(revision)) == sorted(names), name
        assert all(dependent in revision.danger for dependent in names), name
    revision, *_ = planned(database, inside.write_models("\n"))
    assert {PRICES, "materialized view public.m"} <= set(listed(revision))


def test_what_is_dropped_as_well_is_no_dependent(inside: Inside, database: URL) -> None:
    """A column that is computed from another one is dropped before."""
    inside.write_models(models(area=None, double=None))
    (written,) = inside.autogenerate("no areas")
    assert "while something depends" not in text(written)
    before = schema(database)
    inside.upgrade("head", str)
    inside.alembic(command.check)
    inside.alembic(command.downgrade, "start", x=["yes"])
    assert schema(database) == before
    inside.upgrade("head", str)
