"""What a downgrade would destroy, found before it runs."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from textwrap import indent
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import URL

from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.upgrade.data_loss import find_data_loss
from support import NewRole, at, fetch

UNTOLD = None
LOST = ["the column item.name (1 row)"]


def losses(database: URL, folder: Path, *bodies: str, module: str = "") -> list[str] | None:
    """Those of a downgrade with a revision for each of these bodies."""
    imports = "import sqlalchemy as sa\nfrom safe_migrations.operations import op\n"

    def step(number: int, body: str) -> Any:
        path = folder / f"revision_{number}.py"
        path.write_text(f"{imports}{module}\n\ndef downgrade():\n{indent(body, '    ')}\n")
        specification = spec_from_file_location(path.stem, path)
        assert specification
        assert specification.loader
        loaded = module_from_spec(specification)
        specification.loader.exec_module(loaded)
        return SimpleNamespace(revision=SimpleNamespace(path=str(path), module=loaded), migration_fn=loaded.downgrade)

    async def find() -> list[str] | None:
        async with connected(at(database), isolation_level="AUTOCOMMIT") as connection:
            steps = [step(number, body) for number, body in enumerate(bodies)]
            found = await connection.run_sync(find_data_loss, steps)
            return None if found is None else [str(loss) for loss in found]

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
        ("op.drop_column('item', 'name')", LOST),
        ("op.drop_column('item', 'note')", []),
        ("op.execute('ALTER TABLE item DROP name')", LOST),
        ("op.execute('drop table if exists \"A b\"')", []),
        (
            "op.execute('DROP TABLE item, public.two CASCADE')",
            ["the table item (1 row)", "the table public.two (3 rows)"],
        ),
        ("op.execute('TRUNCATE item')", ["the table item (1 row)"]),
        ("op.execute('DELETE FROM item WHERE id > 0')", ["the table item (1 row)"]),
        (
            "op.drop_column('item', 'name')\nop.add_column('item', sa.Column('name', sa.Integer()))",
            LOST,
        ),
        (
            "op.alter_column('item', 'name', type_=sa.String(1), postgresql_using='left(name, 1)')",
            LOST,
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
        (
            "op.execute(\"ALTER TABLE item ALTER note SET DEFAULT ';', DROP COLUMN name\")",
            LOST,
        ),
        (
            "op.execute('ALTER TABLE item ADD CHECK (id > 0 OR name IN (1, 2)), DROP name')",
            LOST,
        ),
        ("op.execute('/* ; */ ALTER TABLE item -- ,\\n DROP name')", LOST),
        ("op.execute('UPDATE item SET name = NULL')", ["the table item (1 row)"]),
        ("op.execute('UPDATE ONLY public.two AS t SET i = 1')", ["the table public.two (3 rows)"]),
        ("op.alter_column('item', 'id', type_=sa.SmallInteger())", ["the column item.id (1 row)"]),
        ("op.alter_column('item', 'id', type_=sa.BigInteger())", []),
        ("op.alter_column('item', 'name', type_=sa.String(5))", LOST),
        ("op.alter_column('item', 'note', type_=sa.Integer())", []),
        ("op.execute('ALTER TABLE item ALTER id TYPE text')", []),
        ("op.execute('ALTER TABLE item ALTER name TYPE text COLLATE \"C\"')", LOST),
        ("op.execute('ALTER TABLE item ALTER id DROP EXPRESSION')", UNTOLD),
        ("op.execute('INSERT INTO two VALUES (1) ON CONFLICT DO NOTHING')", []),
        ("op.execute('INSERT INTO two VALUES (1) ON CONFLICT (i) DO UPDATE SET i = 0')", UNTOLD),
        ("op.execute('WITH gone AS (DELETE FROM item) SELECT 1')", UNTOLD),
        ("op.execute('MERGE INTO item USING two ON id = i WHEN MATCHED THEN DELETE')", UNTOLD),
        ("op.execute('SELECT empty_all()')", UNTOLD),
        ("op.execute('CALL empty_all()')", UNTOLD),
        ("op.execute('DROP FUNCTION f; DROP VIEW v; COMMENT ON TABLE item IS NULL')", []),
        ("for name in ('name', 'note'):\n    op.drop_column('item', name)", LOST),
        (
            "with op.batch_alter_table('item') as batch:\n    batch.drop_column('name')",
            LOST,
        ),
    ],
)
def test_what_is_lost(item: URL, tmp_path: Path, code: str, lost: list[str] | None) -> None:
    assert losses(item, tmp_path, code) == lost


def test_of_several_revisions(item: URL, tmp_path: Path) -> None:
    assert losses(item, tmp_path, "op.create_table('x')", "op.drop_table('x')\nop.drop_table('two')") == [
        "the table two (3 rows)"
    ]


@pytest.mark.parametrize(
    "body",
    [
        "open('{0}', 'w')",
        "pathlib.Path('{0}').touch()",
        "touch()",
        "op.drop_column('item', touch())",
        "sa.create_engine('sqlite:///{0}').connect()",
        "[touch() for _ in range(1)]",
        "(lambda: touch())()",
        "call = touch\ncall()",
        "@touch\ndef inner(): ...",
        "for row in ROWS:\n    op.execute(row)",
        "try:\n    touch()\nfinally:\n    pass",
        "import os\nos.mkdir('{0}')",
        "class Inner(metaclass=touch): ...",
    ],
)
def test_no_code_of_a_revision_runs_before_the_question(item: URL, tmp_path: Path, body: str) -> None:
    left = tmp_path / "left"
    module = f"import pathlib\n\ndef touch(*_):\n    pathlib.Path('{left}').touch()\n\nROWS = (touch() for _ in (1,))\n"
    assert losses(item, tmp_path, body.format(left), module=module) is UNTOLD
    assert not left.exists()


def test_functions_of_the_file_are_looked_into(item: URL, tmp_path: Path) -> None:
    module = "NAMES = ['name']\n\ndef drop(table, name):\n    op.drop_column(table, f'{name}')\n"
    assert losses(item, tmp_path, "for name in NAMES:\n    drop('item', name)", module=module) == [
        "the column item.name (1 row)"
    ]


def test_rows_that_row_security_hides_are_not_taken_for_none(item: URL, new_role: NewRole, tmp_path: Path) -> None:
    """The owner migrates, and sees no row."""
    role = new_role("LOGIN", "secret")
    for statement in (
        f"GRANT ALL ON SCHEMA public TO {role}",
        f"ALTER TABLE item OWNER TO {role}",
        "ALTER TABLE item ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE item FORCE ROW LEVEL SECURITY",
    ):
        fetch(item, statement)
    owner = item.set(username=role, password="secret")
    assert fetch(owner, "SELECT count(*) FROM item") == [(0,)]
    assert losses(owner, tmp_path, "op.drop_table('item')") == ["the table item (row security may hide rows)"]
    fetch(item, f"ALTER TABLE item OWNER TO {item.username}")
