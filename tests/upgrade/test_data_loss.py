"""What a downgrade would destroy, found before it runs."""

from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from textwrap import indent
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import URL

from safe_migrations.ddl.step_records import StepRecords
from safe_migrations.postgres.connection import connected, run_async
from safe_migrations.upgrade.data_loss import find_data_loss
from safe_migrations.upgrade.offline import offline_statements
from support import Administrator, NewRole, at, execute_all, fetch

UNTOLD = None
LOST = ["the column item.name (1 row)"]


def loaded_script(path: Path) -> Any:
    """A revision, as Alembic would have loaded it."""
    specification = spec_from_file_location(path.stem, path)
    assert specification
    assert specification.loader
    module = module_from_spec(specification)
    specification.loader.exec_module(module)
    return SimpleNamespace(revision=path.stem, path=str(path), module=module)


def losses(database: URL, folder: Path, *bodies: str, module: str = "") -> list[str] | None:
    """Those of a downgrade with a revision for each of these bodies."""
    imports = "import sqlalchemy as sa\nfrom safe_migrations.operations import op\n"

    def step(number: int, body: str) -> Any:
        path = folder / f"revision_{number}.py"
        path.write_text(f"{imports}{module}\n\ndef downgrade():\n{indent(body, '    ')}\n")
        script = loaded_script(path)
        return SimpleNamespace(revision=script, migration_fn=script.module.downgrade)

    async def find() -> list[str] | None:
        async with connected(at(database), isolation_level="AUTOCOMMIT") as connection:
            steps = [step(number, body) for number, body in enumerate(bodies)]
            data_loss = await connection.run_sync(find_data_loss, steps, StepRecords("", {}))
            return None if data_loss is None else [str(loss) for loss in data_loss]

    return run_async(find())


TABLES = """
    CREATE TABLE item (id int, name text, note text);
    INSERT INTO item VALUES (1, 'a', NULL);
    CREATE TABLE "A b" (i int);
    CREATE TABLE two (i int);
    INSERT INTO two SELECT generate_series(1, 3);
"""
# Besides, tables in which a name, a type or a function decides what is lost.
OTHERS = """
    CREATE TABLE empty (id int, name text, note text);
    CREATE TABLE shadow (i int);
    CREATE SCHEMA tenant;
    CREATE TABLE tenant.shadow AS SELECT 1 AS i;
    CREATE TABLE number AS SELECT 1.5 AS n;
    CREATE TYPE pair AS (a int, rename int);
    CREATE TABLE composite AS SELECT CAST(ROW(1, NULL) AS pair) AS c;
    CREATE TABLE of_type (i int);
    CREATE TABLE has_type AS SELECT CAST(ROW(1) AS of_type) AS c;
    CREATE TABLE as_argument (i int);
    CREATE FUNCTION of_row(as_argument) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE VIEW seen AS SELECT 1 AS a;
    CREATE VIEW none AS SELECT * FROM item WHERE false;
    CREATE FUNCTION empty_all() RETURNS int LANGUAGE sql AS 'DELETE FROM item; SELECT 1';
    CREATE FUNCTION empty_item() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM item; RETURN NEW; END';
    CREATE TABLE watched (i int);
    CREATE TRIGGER empties BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION empty_item();
"""


@pytest.fixture(scope="module")
def read_only(server: URL, administrator: Administrator) -> Iterator[Callable[[str], URL]]:
    """Databases with the tables and more, in which no test can write; one for each text."""
    urls: dict[str, URL] = {}

    def with_tables(more: str) -> URL:
        if more not in urls:
            name = f"database_{uuid4().hex}"
            administrator.create(name)
            urls[more] = server.set(database=name)
            execute_all(urls[more], f"{TABLES}; {more}; ALTER DATABASE {name} SET default_transaction_read_only = on")
        return urls[more]

    yield with_tables
    for url in urls.values():
        administrator.drop(str(url.database))


@pytest.fixture
def item(read_only: Callable[[str], URL]) -> URL:
    """A database with a table of one row, in which one column is empty, and an empty table."""
    return read_only("")


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
        ("op.execute('ALTER TABLE item ALTER id SET START WITH 5 SET INCREMENT BY 2')", []),
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
        ("op.execute('INSERT INTO two VALUES (1) -- why')\nop.drop_table('item')", ["the table item (1 row)"]),
        (
            "op.execute('CREATE TABLE a$x$ (i int)')\nop.drop_table('item')\nop.execute('DROP TABLE a$x$')",
            ["the table item (1 row)"],
        ),
        ("for name in ('name', 'note'):\n    op.drop_column('item', name)", LOST),
        (
            "with op.batch_alter_table('item') as batch:\n    batch.drop_column('name')",
            LOST,
        ),
    ],
)
def test_what_is_lost(item: URL, tmp_path: Path, code: str, lost: list[str] | None) -> None:
    assert losses(item, tmp_path, code) == lost


@pytest.fixture
def others(read_only: Callable[[str], URL]) -> URL:
    """With the other tables as well."""
    return read_only(OTHERS)


@pytest.mark.parametrize(
    ("code", "lost"),
    [
        ("op.rename_table('empty', 'x')\nop.rename_table('item', 'empty')\nop.drop_table('empty')", UNTOLD),
        (
            "op.alter_column('item', 'note', new_column_name='x')\n"
            "op.alter_column('item', 'name', new_column_name='note')\nop.drop_column('item', 'note')",
            UNTOLD,
        ),
        ("op.alter_column('item', 'name', new_column_name='x')\nop.drop_column('item', 'note')", []),
        ("op.execute('SET search_path TO tenant')\nop.drop_table('shadow')", UNTOLD),
        ("op.execute('SET LOCAL search_path = tenant')\nop.drop_table('shadow')", UNTOLD),
        ("op.execute('SET lock_timeout = 0')\nop.drop_table('shadow')", []),
        (
            "op.alter_column('number', 'n', type_=sa.Integer())\nop.alter_column('number', 'n', type_=sa.Numeric())",
            ["the column number.n (1 row)"],
        ),
        (
            "op.drop_column('item', 'name')\nop.add_column('item', sa.Column('name', sa.Text()))\n"
            "op.alter_column('item', 'name', type_=sa.Text())",
            LOST,
        ),
        (
            "op.execute('CREATE TABLE p (id int, name text, note text) PARTITION BY LIST (id)')\n"
            "op.execute('ALTER TABLE p ATTACH PARTITION item DEFAULT')\nop.drop_table('p')",
            UNTOLD,
        ),
        ("op.execute('ALTER TABLE item INHERIT empty')\nop.execute('DROP TABLE empty CASCADE')", UNTOLD),
        ("op.execute('DROP TABLE of_type CASCADE')", UNTOLD),
        ("op.execute('DROP TABLE shadow CASCADE')", []),
        ("op.drop_column('composite', 'c')", ["the column composite.c (1 row)"]),
        ("op.execute('TRUNCATE empty, empty *, item')", ["the table item (1 row)"]),
        ("op.execute('ALTER TABLE item ADD x int -- a\\r, DROP name')", LOST),
        ("op.execute('CREATE TABLE x AS SELECT empty_all()')", UNTOLD),
        ("op.execute('CREATE TABLE x AS SELECT lower(name) FROM item')", []),
        ("op.execute('INSERT INTO two SELECT empty_all()')", UNTOLD),
        ("op.execute('INSERT INTO two (i) SELECT abs(-1)')", []),
        ("op.execute('INSERT INTO watched VALUES (1)')", UNTOLD),
        ("op.execute('DELETE FROM empty USING empty_all()')", UNTOLD),
        ("op.execute('CREATE RULE r AS ON INSERT TO two DO INSTEAD DELETE FROM item')", UNTOLD),
        ("op.execute('DROP VIEW seen CASCADE')", UNTOLD),
        ("op.drop_column('of_type', 'i')", UNTOLD),
        ("op.drop_column('as_argument', 'i')", []),
        ("op.execute('ALTER TYPE pair DROP ATTRIBUTE rename')", UNTOLD),
        ("op.execute('ALTER TYPE pair RENAME ATTRIBUTE rename TO b')", []),
        (
            "op.execute('CREATE OR REPLACE VIEW none AS SELECT * FROM item')\nop.execute('DELETE FROM none')",
            UNTOLD,
        ),
        ("op.execute('DELETE FROM none')", []),
        ("op.execute('CREATE FUNCTION f() RETURNS int RETURN 1')\nop.execute('INSERT INTO two SELECT f()')", UNTOLD),
        ("op.execute('ALTER TABLE two ENABLE TRIGGER unused')\nop.execute('INSERT INTO two VALUES (1)')", UNTOLD),
        ("op.execute('INSERT INTO two WITH gone AS (DELETE FROM item RETURNING 1) SELECT 1 FROM gone')", UNTOLD),
        ("op.execute('CREATE TABLE x AS (WITH gone AS (DELETE FROM item RETURNING 1) SELECT 1 FROM gone)')", UNTOLD),
        ("op.execute('CREATE TABLE x (i int REFERENCES y ON UPDATE SET NULL ON DELETE CASCADE)')", []),
        ("if not op.get_context().as_sql:\n    op.drop_table('item')", UNTOLD),
        ("for head in op.get_context().get_current_heads():\n    op.drop_table('item')", UNTOLD),
        ("context = op.get_context()\nif not context.opts['as' '_sql']:\n    op.drop_table('item')", UNTOLD),
        ("with op.batch_alter_table('item') as batch:\n    if batch.impl.dialect.driver:\n        pass", UNTOLD),
        (
            "with op.get_context().autocommit_block():\n    op.drop_column('item', 'name')",
            LOST,
        ),
    ],
)
def test_what_a_name_a_type_or_a_function_hides(others: URL, tmp_path: Path, code: str, lost: list[str] | None) -> None:
    assert losses(others, tmp_path, code) == lost


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


@pytest.mark.parametrize(
    "module",
    [
        "downgrade = touch",
        "if True:\n    def downgrade():\n        touch()",
        "def around(_):\n    return touch\n\n@around\ndef downgrade(): ...",
        "def around(_):\n    return touch\n\n@around\ndef drop(): ...\n\ndef downgrade():\n    drop()",
        "def downgrade(call=touch):\n    call()",
        "def downgrade(): ...\n\ndowngrade = touch",
        "from sqlalchemy import create_engine\n\ndef downgrade():\n    create_engine('sqlite:///{0}').connect()",
        "def downgrade():\n    sa.engine_from_config({{'sqlalchemy.url': 'sqlite:///{0}'}}).connect()",
    ],
)
def test_no_other_function_is_taken_for_the_downgrade(tmp_path: Path, module: str) -> None:
    left, path = tmp_path / "left", tmp_path / "revision.py"
    touch = f"import pathlib\nimport sqlalchemy as sa\n\ndef touch(*_):\n    pathlib.Path('{left}').touch()\n"
    path.write_text(f"{touch}\n{module.format(left)}\n")
    assert offline_statements(loaded_script(path), "downgrade") is UNTOLD
    assert not left.exists()


@pytest.mark.parametrize(
    "module",
    [
        "DATA = sa.MetaData()\n\ndef downgrade():\n    op.execute(sa.Table('x', DATA, sa.Column('i')).delete())",
        "LEFT = [1]\n\ndef downgrade():\n    op.execute(f'DELETE FROM two WHERE i = {LEFT.pop()}')",
    ],
)
def test_a_downgrade_finds_its_module_unused(tmp_path: Path, module: str) -> None:
    path = tmp_path / "revision.py"
    path.write_text(f"import sqlalchemy as sa\nfrom safe_migrations.operations import op\n\n{module}\n")
    script = loaded_script(path)
    assert offline_statements(script, "downgrade") == offline_statements(script, "downgrade") is not UNTOLD


def test_functions_of_the_file_are_looked_into(item: URL, tmp_path: Path) -> None:
    module = "NAMES = ['name']\n\ndef drop(table, name):\n    op.drop_column(table, f'{name}')\n"
    assert losses(item, tmp_path, "for name in NAMES:\n    drop('item', name)", module=module) == [
        "the column item.name (1 row)"
    ]


def test_rows_that_row_security_hides_are_not_taken_for_none(database: URL, new_role: NewRole, tmp_path: Path) -> None:
    """The owner migrates, and sees no row."""
    execute_all(database, TABLES)
    role = new_role("LOGIN", "secret")
    for statement in (
        f"GRANT ALL ON SCHEMA public TO {role}",
        f"ALTER TABLE item OWNER TO {role}",
        "ALTER TABLE item ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE item FORCE ROW LEVEL SECURITY",
    ):
        fetch(database, statement)
    owner = database.set(username=role, password="secret")
    assert fetch(owner, "SELECT count(*) FROM item") == [(0,)]
    assert losses(owner, tmp_path, "op.drop_table('item')") == ["the table item (row security may hide rows)"]
    fetch(database, f"ALTER TABLE item OWNER TO {database.username}")
