"""What a revision takes away although the models still have it."""

import logging
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config

from revision_files import POSTGRES_VERSION, Versions, written
from safe_migrations.lint import check as lint
from safe_migrations.lint.still_in_models import load_models


def models() -> list[sa.MetaData]:
    """A table, and one in a schema."""
    one, two = sa.MetaData(), sa.MetaData(schema="billing")
    sa.Table("item", one, sa.Column("id", sa.Integer()), sa.Column("Sku", sa.Text()))
    sa.Table("box", two, sa.Column("id", sa.Integer()))
    return [one, two]


def taken_away(folder: Path, body: str, *later: str, phase: str = "contract") -> list[str]:
    """What a revision takes away, after which others follow."""
    versions = Versions(folder)
    versions.add("0002", written(body, acknowledged="", phase=phase))
    for number, text in enumerate(later, 3):
        versions.add(f"{number:04d}", written(text))
    directory = versions.script_directory
    findings = lint.lint(directory, lint.find_scripts(directory, "0002"), POSTGRES_VERSION, models)
    return [finding.what for finding in findings if finding.rule.name == "still-in-models"]


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("op.drop_column('item', 'Sku')", ["item.Sku"]),
        ("op.drop_column('item', 'sku')\nop.drop_column('item', 'old')\nop.drop_constraint('id', 'item')", []),
        ("op.drop_table('item')", ["item"]),
        ("op.drop_table('item', schema='public')\nop.drop_table('box')", ["item"]),
        ("op.drop_column('box', 'id', schema='billing')", ["billing.box.id"]),
        ("op.execute('DROP TABLE IF EXISTS shop, item')", ["item"]),
        ("op.execute('ALTER TABLE item DROP id, DROP \"Sku\"')", ["item.Sku, item.id"]),
        ("op.alter_column('item', 'id', new_column_name='key')", ["item.id"]),
        ("op.rename_table('item', 'article')", ["item"]),
        # brought back, or not
        ("op.drop_column('item', 'id')\nop.add_column('item', sa.Column('id', sa.Text()))", []),
        ("op.drop_column('item', 'id')\nop.alter_column('item', 'key', new_column_name='id')", []),
        ("op.drop_column('item', 'id')\nop.add_column('shop', sa.Column('id', sa.Text()))", ["item.id"]),
        ("op.drop_table('item')\nop.rename_table('article', 'item')", []),
        ("op.add_column('item', sa.Column('id', sa.Text()))\nop.drop_column('item', 'id')", ["item.id"]),
    ],
)
def test_what_the_models_still_have(tmp_path: Path, body: str, names: list[str]) -> None:
    assert taken_away(tmp_path, body) == names


def test_later_revision_brings_it_back(tmp_path: Path) -> None:
    drop, add = "op.drop_column('item', 'id')", "op.add_column('{}', sa.Column('id', sa.Text()))"
    assert taken_away(tmp_path, drop, "", add.format("shop")) == ["item.id"]
    assert taken_away(tmp_path, drop, "", add.format("item")) == []
    assert taken_away(tmp_path, drop, "op.create_table('item')") == []


def test_in_each_phase(tmp_path: Path) -> None:
    assert taken_away(tmp_path, "op.drop_table('item')", phase="expand") == ["item"]


def test_models_are_loaded_only_if_something_goes(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    versions.add("0002", written("op.add_column('item', sa.Column('a', sa.Text()))"))
    directory = versions.script_directory

    def fail() -> list[sa.MetaData]:
        raise AssertionError

    assert lint.lint(directory, lint.find_scripts(directory, "0002"), POSTGRES_VERSION, fail) == []


@pytest.mark.parametrize(
    ("env", "note"),
    [
        ("raise ValueError('no settings')  # run_env", "ValueError: no settings"),
        ("import sys\nfrom safe_migrations import run_env\nsys.exit(3)", "SystemExit: 3"),
        ("from safe_migrations import run_env\nprint('hello')\nrun_env(database_url='postgresql://')", "hello"),
        ("raise ValueError('this env.py connects to a database')", ""),
    ],
)
def test_models_that_can_not_be_loaded(tmp_path: Path, env: str, note: str, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.joinpath("env.py").write_text(env)
    ini = tmp_path / "alembic.ini"
    ini.write_text("[alembic]\nscript_location = %(here)s\n")
    assert load_models(Config(ini)) == []
    output, errors = capsys.readouterr()
    assert (output, bool(errors)) == ("", bool(note))
    assert note in errors


def test_loggers_are_as_before_the_models_were_loaded(tmp_path: Path) -> None:
    noisy = "import logging\nfrom safe_migrations import run_env\nlogging.getLogger('alembic').setLevel('DEBUG')\n"
    tmp_path.joinpath("env.py").write_text(f"{noisy}run_env(database_url='postgresql://')")
    ini = tmp_path / "alembic.ini"
    ini.write_text("[alembic]\nscript_location = %(here)s\n")
    level = logging.getLogger("alembic").level
    load_models(Config(ini))
    assert logging.getLogger("alembic").level == level
