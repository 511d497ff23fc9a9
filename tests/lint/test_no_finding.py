"""What looks dangerous and is harmless: no finding, beside a form that is one; and the lines of findings."""

import subprocess
from pathlib import Path
from textwrap import indent

import pytest

from revision_files import Versions, names_in, written

ADD_VALUE = "# why\nop.execute(\"ALTER TYPE used ADD VALUE 'bad'\")"
CREATE, DROP, DROP_INDEX = "op.create_table('new')", "op.drop_table('box')", "op.drop_index('ix', '{}')"
# Of another project, without a phase and without this library.
OTHER = """revision = "{revision}"
down_revision = {down}
from alembic import op
import sqlalchemy as sa

def upgrade():
{upgrade}

def downgrade():
    op.execute("SELECT 1")
"""


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    """A history of one revision."""
    return Versions(tmp_path)


def names(versions: Versions, revision: str = "0002") -> list[str]:
    """The rules that find something."""
    return [name for _, name in versions.found(revision)]


LOCKED = {
    f"{DROP_INDEX.format('box')}\n{DROP}": [],
    f"{DROP}\n{DROP_INDEX.format('item')}": ["require-concurrent-index-deletion"],
    f"{CREATE}\nop.create_index('ix', 'new', ['a'])\n{DROP_INDEX.format('new')}": [],
    f"{DROP_INDEX.format('item')}\nop.drop_column('item', 'a')": [],
    f"{DROP_INDEX.format('item')}\nop.add_column('item', sa.Column('a', sa.Text()))": [],
    f"{DROP_INDEX.format('item')}\nop.validate_constraint('c', 'item')": ["require-concurrent-index-deletion"],
    "op.drop_index('ix', 'item', schema='s')\nop.drop_column('item', 'a', schema='s')": [],
    "op.drop_index('ix', 'item', schema='s')\nop.drop_column('item', 'a')": [
        "require-concurrent-index-deletion",
        "several-tables",
    ],
    "# why\nop.execute('DROP INDEX ix')\nop.drop_column('item', 'a')": ["require-concurrent-index-deletion"],
    "op.drop_column('item', 'a')\nop.drop_table('box')\nop.drop_table('shop')": [],
    "op.add_column('item', sa.Column('b', sa.Text()))\nop.alter_column('item', 'b', new_column_name='a')": [],
    "# why\nop.execute('ALTER TABLE item ADD COLUMN \"a, (b\" int, ADD COLUMN c text')": [],
}


def test_lock_that_the_revision_takes_anyway(tmp_path: Path) -> None:
    rules = names_in(tmp_path, {body: written(body, acknowledged="") for body in LOCKED})
    assert {body: [name for name in rules[body] if name != "unrelated-changes"] for body in LOCKED} == LOCKED


def test_column_that_is_renamed_is_not_the_added_one(versions: Versions) -> None:
    body = "op.add_column('{}', sa.Column('b', sa.Text()))\nop.alter_column('item', 'a', new_column_name='c')"
    for table in ("item", "box"):
        versions.add("0002", written(body.format(table)))
        assert "renaming-column" in names(versions)


MESSAGES = {
    "add_depends_on_workflow_run_id": [],
    "drop-unused-columns": [],
    "add_price": [],
    "price": ["meaningless-message"],
    "__price__": ["meaningless-message"],
    "update_models": ["meaningless-message"],
    "empty-message": ["meaningless-message"],
    "添加价格": [],
}


def test_words_of_a_message(tmp_path: Path) -> None:
    assert names_in(tmp_path, {message: written("", message=message) for message in MESSAGES}) == MESSAGES


LIMITS = {
    "SET LOCAL lock_timeout = '5s'": [],
    "SET lock_timeout TO 4000": [],
    "SET lock_timeout = '11s'": ["changed-timeout"],
    "SET SESSION lock_timeout = '2min'": ["changed-timeout"],
    "SET LOCAL lock_timeout = 0": ["changed-timeout"],
    "SET LOCAL lock_timeout = '0s'": ["changed-timeout"],
    "SET lock_timeout = DEFAULT": [],
    "RESET statement_timeout": [],
    "SET statement_timeout = 120000": [],
    "SET statement_timeout = '3h'": ["changed-timeout"],
    "SET statement_timeout = '1 fortnight'": ["changed-timeout"],
    "SELECT set_config('lock_timeout', '5s', true)": [],
    "SELECT set_config('lock_timeout', current_user, true)": ["changed-timeout"],
    "SET idle_in_transaction_session_timeout = '5min'": [],
}


def test_limits_of_waiting(tmp_path: Path) -> None:
    texts = {statement: written(f'# why\nop.execute("{statement}")') for statement in LIMITS}
    assert names_in(tmp_path, texts) == LIMITS


def test_builds_may_take_their_time_outside_a_transaction(versions: Versions) -> None:
    body = "with op.get_context().autocommit_block():\n    # why\n    op.execute(\"SET {} = '3h'\")"
    versions.add("0002", written(body.format("statement_timeout")))
    assert names(versions) == []
    versions.add("0002", written(body.format("lock_timeout")))
    assert names(versions) == ["changed-timeout"]


DOWNGRADES = {
    (ADD_VALUE, "pass"): [],
    ("op.add_enum_value('used', 'bad')", "pass"): [],
    ("op.execute(sa.delete(ITEM).where(ITEM.c.id == 3))", "pass"): [],
    ("op.validate_constraint('c', 'item')", "pass"): [],
    ("op.bulk_insert(ITEM, [{'id': 3}])", "pass"): ["empty-downgrade"],
    (f"{ADD_VALUE}\n{CREATE}", "pass"): ["empty-downgrade"],
    ("op.drop_constraint('c', 'item')", "pass"): ["empty-downgrade"],
    (CREATE, "raise RuntimeError('the rows are gone')"): [],
    (CREATE, "raise RuntimeError"): ["empty-downgrade"],
    ("op.get_bind().scalar(sa.select(1))", "pass"): ["needs-database"],
    ("op.get_bind().scalar(sa.select(1))\n" + CREATE, "pass"): ["needs-database", "empty-downgrade"],
    ("op.get_bind().scalars(sa.select(1)); op.execute('DROP VIEW v') # why", "pass"): [
        "needs-database",
        "empty-downgrade",
    ],
    # Until release 2.0, it had to be acknowledged.
    (ADD_VALUE, "# safe: empty-downgrade because PostgreSQL can't remove a value of an enum\npass"): [],
}


def test_what_needs_no_downgrade(tmp_path: Path) -> None:
    assert names_in(tmp_path, {bodies: written(*bodies) for bodies in DOWNGRADES}) == DOWNGRADES


ROWS = {
    "op.execute(\"INSERT INTO box VALUES (1, 'a')\")  # why": [],
    "op.bulk_insert(ITEM, [{'id': 3}])": [],
    "op.execute('INSERT INTO box SELECT id FROM item')  # why": ["schema-and-data"],
    "op.execute('INSERT INTO box VALUES ((SELECT max(id) FROM item))')  # why": ["schema-and-data"],
    "op.execute('UPDATE box SET id = 1 WHERE id = 2')  # why": ["schema-and-data"],
}


def test_rows_that_the_file_lists(tmp_path: Path) -> None:
    rules = names_in(
        tmp_path, {body: written(f"op.add_column('item', sa.Column('a', sa.Text()))\n{body}") for body in ROWS}
    )
    assert {body: [name for name in rules[body] if name == "schema-and-data"] for body in ROWS} == ROWS
    create = "op.execute('CREATE TEMP TABLE t AS SELECT 1')  # why\n"
    rules = names_in(tmp_path, {body: written(create + body.replace("box", "item")) for body in ROWS})
    assert not [body for body in ROWS if "schema-and-data" in rules[body]]


LOOPS = {
    "{'a': 1}.items()": [],
    "enumerate(sorted(TABLES))": [],
    "rows": [],
    "zip(TABLES, rows)": [],
    "[]": ["row-by-row"],
    "zip(TABLES, range(3))": ["row-by-row"],
    "SQL": ["row-by-row"],
}


def test_loop_over_what_the_file_lists(tmp_path: Path) -> None:
    body = "rows = [1, 2]\nfor each in {}:\n    op.execute(sa.delete(ITEM).where(ITEM.c.id == 3))"
    assert names_in(tmp_path, {values: written(body.format(values)) for values in LOOPS}) == LOOPS


REBUILD = "# why\n    op.execute('DROP INDEX CONCURRENTLY IF EXISTS {}')\n    # why\n"


@pytest.mark.parametrize(("name", "expected"), [("ix", []), ("iy", ["index-if-not-exists"])])
def test_index_that_is_dropped_before(versions: Versions, name: str, expected: list[str]) -> None:
    body = f"with op.get_context().autocommit_block():\n    {REBUILD.format(name)}"
    versions.add("0002", written(f"{body}    op.execute('CREATE INDEX CONCURRENTLY IF NOT EXISTS ix ON item (sku)')"))
    assert names(versions) == expected


RENAME = "# why\nop.execute('ALTER TYPE used RENAME TO old')\n"
CONVERT = "# why\nop.execute('ALTER TABLE item ALTER sku TYPE used USING sku::text::used')"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (RENAME, []),
        (f"{RENAME}op.create_enum('used', ['good'])\n{CONVERT}", ["enum-replacement"]),
        (f"op.create_enum('mood', ['good'])\n{CONVERT}", ["changing-column-type"]),
    ],
)
def test_type_that_is_renamed_or_replaced(versions: Versions, body: str, expected: list[str]) -> None:
    versions.add("0002", written(body, "op.drop_enum('used')\nop.drop_enum('mood')\nop.drop_enum('old')"))
    assert names(versions) == expected


# The lines of findings


def test_operations_of_a_batch_are_found_at_their_own_lines(versions: Versions) -> None:
    lines = [
        "with op.batch_alter_table('item') as batch:",
        "    batch.create_index('ix', ['sku'])",
        "    batch.alter_column(",
        "        'sku', existing_type=sa.String(3), type_=sa.Text()",
        "    )",
        "    batch.create_index('iy', ['sku'])",
        "    batch.alter_column('id', existing_type=sa.Integer(), type_=sa.BigInteger())",
        "    batch.drop_column('a')",
    ]
    versions.add("0002", written("\n".join(lines)))
    created = "require-concurrent-index-creation"
    expected = [(28, created), (32, created), (33, "changing-column-type"), (34, "unacknowledged")]
    assert versions.found("0002") == expected


def test_batch_that_copies_the_table_is_not_seen(versions: Versions) -> None:
    body = "with op.batch_alter_table('item', recreate='always') as batch:\n    batch.drop_column('a')"
    versions.add("0002", written(body))
    assert names(versions) == ["unseen-statement"]


@pytest.mark.parametrize(
    "mistake",
    [
        "op.drop_constraint(None, 'item', type_='unique')",
        "op.drop_constraint(None, 'item', type_='foreignkey')",
        "with op.batch_alter_table('item') as batch:\n        batch.drop_constraint(None, type_='check')",
    ],
)
def test_constraint_without_a_name_is_a_mistake(versions: Versions, mistake: str) -> None:
    versions.add("0002", written("", f"pass\n{mistake}".replace("        ", "    ")))
    assert names(versions) == ["python-error"]


# The rules of style


def git(folder: Path, *arguments: str) -> None:
    """Run git, as somebody."""
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder), *arguments]
    subprocess.run(command, check=True, capture_output=True)


def of_others(upgrade: str = "op.execute('SELECT 1')") -> str:
    """A revision file of another project, without its ids."""
    return OTHER.replace("{upgrade}", indent(upgrade, "    "))


STYLE = ["meaningless-message", "missing-phase", "raw-sql-without-reason", "raw-sql-without-reason"]


def test_style_begins_with_the_first_revision_of_this_library(versions: Versions) -> None:
    versions.add("0001", of_others())
    versions.add("0002", of_others("op.drop_column('item', 'a')"))
    assert names(versions, "base:head") == ["unacknowledged"]
    versions.add("0003", written(""))
    versions.add("0004", of_others())
    assert names(versions, ":0003") == ["unacknowledged"]
    assert sorted(names(versions, "0003:")) == STYLE


def test_style_of_branches(versions: Versions) -> None:
    for revision in ("0001", "0002", "0003"):
        versions.add(revision, of_others())
    versions.add("0004", of_others()).write_text(of_others().replace("{revision}", "0004").replace("{down}", "'0001'"))
    versions.add("0005", written("").replace("{down}", '"0002"'))
    versions.path("0003").write_text(of_others().replace("{revision}", "0003").replace("{down}", "'0005'"))
    versions.folder.joinpath("versions", "HEAD").unlink()
    assert names(versions, "0004") == names(versions, "0002") == []
    assert sorted(names(versions, "0003")) == STYLE


def test_new_revisions_are_judged_in_full(versions: Versions) -> None:
    versions.add("0001", of_others())
    git(versions.folder, "init", "--initial-branch=main")
    git(versions.folder, "add", "--all")
    git(versions.folder, "commit", "--message=all")
    assert names(versions, "base:head") == []  # git does not know what was there before
    git(versions.folder, "commit", "--allow-empty", "--message=next")
    assert names(versions, "base:head") == []
    git(versions.folder, "switch", "--create=work")
    versions.add("0002", of_others())
    assert [finding.path.stem for finding in versions.lint("base:head")] == ["0002"] * len(STYLE)


def test_a_foreign_key_goes_with_the_table_that_it_references(versions: Versions) -> None:
    drop = "op.drop_constraint('fk_item_box', 'item', type_={!r})\nop.drop_table('box')"
    versions.add("0002", written(drop.format("foreignkey")))
    assert "unrelated-changes" not in names(versions)
    versions.add("0002", written(drop.format("check")))
    assert "unrelated-changes" in names(versions)
