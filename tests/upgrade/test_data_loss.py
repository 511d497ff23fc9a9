"""What a downgrade would destroy, found before it runs."""

from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import op
from sqlalchemy import URL

from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.upgrade.data_loss import find_data_loss
from support import at, fetch

UNTOLD = None


def losses(database: URL, *statements: str) -> list[str] | None:
    """Those of a downgrade with a revision for each of these pieces of Python, as they are told."""

    def step(code: str) -> Any:
        return SimpleNamespace(migration_fn=lambda: exec(code, {"op": op, "sa": sa}))  # noqa: S102

    async def find() -> list[str] | None:
        async with connected(at(database), isolation_level="AUTOCOMMIT") as connection:
            found = await connection.run_sync(find_data_loss, [step(each) for each in statements])
            return None if found is None else [str(loss) for loss in found if loss.rows != 0]

    return run_async(find())


@pytest.fixture
def item(database: URL) -> URL:
    """A database with a table of one row, in which one column is empty, and an empty table."""
    fetch(database, "CREATE TABLE item (id int, name text, note text)")
    fetch(database, "INSERT INTO item VALUES (1, 'a', NULL)")
    fetch(database, 'CREATE TABLE "A b" (i int)')
    fetch(database, "CREATE TABLE two (i int)")
    fetch(database, "INSERT INTO two SELECT generate_series(1, 3)")
    return database


@pytest.mark.parametrize(
    ("code", "lost"),
    [
        ("op.drop_table('item')", ["the table item (1 row)"]),
        ("op.drop_column('item', 'name')", ["the column item.name (1 row)"]),
        ("op.drop_column('item', 'note')", []),
        ("op.execute('ALTER TABLE item DROP name')", ["the column item.name (1 row)"]),
        ("op.execute('drop table if exists \"A b\"')", []),
        (
            "op.execute('DROP TABLE item, public.two CASCADE')",
            ["the table item (1 row)", "the table public.two (3 rows)"],
        ),
        ("op.execute('TRUNCATE item')", ["the table item (1 row)"]),
        ("op.execute('DELETE FROM item WHERE id > 0')", ["the table item (1 row)"]),
        (
            "op.drop_column('item', 'name')\nop.add_column('item', sa.Column('name', sa.Integer()))",
            ["the column item.name (1 row)"],
        ),
        (
            "op.alter_column('item', 'name', type_=sa.String(1), postgresql_using='left(name, 1)')",
            ["the column item.name (1 row)"],
        ),
        ("op.alter_column('item', 'name', server_default=None, nullable=True)", []),
        ("op.drop_constraint('ck_item', 'item')\nop.drop_index('ix_item')", []),
        ("op.create_table('x')\nop.drop_table('x')", []),
        ("op.drop_table('missing')", UNTOLD),
        ("op.rename_table('item', 'x')\nop.drop_table('x')", UNTOLD),
        ("op.get_bind().execute(sa.text('SELECT 1')).scalar_one()", UNTOLD),
        ("op.execute('TRUNCATE item CASCADE')", UNTOLD),
        ("op.execute('DROP SCHEMA public CASCADE')", UNTOLD),
        ("op.execute('DO $$ BEGIN DROP TABLE item; END $$')", UNTOLD),
    ],
)
def test_what_is_lost(item: URL, code: str, lost: list[str] | None) -> None:
    assert losses(item, code) == lost


def test_of_several_revisions(item: URL) -> None:
    assert losses(item, "op.create_table('x')", "op.drop_table('x')\nop.drop_table('two')") == [
        "the table two (3 rows)"
    ]
