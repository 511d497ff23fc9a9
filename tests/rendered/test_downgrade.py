"""A downgrade names what it destroys, and asks if rows are lost."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import URL

from support import Service, bare_environment, fetch, tables

NOTE = ('op.add_column("item", sa.Column("note", sa.Text()))', 'op.drop_column("item", "note")')


@pytest.fixture
def filled(service: Service, database: URL) -> Service:
    """A service at head, with an item."""
    service.succeed("alembic", "upgrade", "head")
    fetch(database, "INSERT INTO item (name) VALUES ('a')")
    return service


def test_rows_are_lost_only_if_somebody_agrees(filled: Service, database: URL) -> None:
    sentence = filled.fail("alembic", "downgrade", "-1")
    assert sentence.startswith("This downgrade destroys the table item (1 row). Nothing was changed: nobody can answer")
    assert "add -x yes" in sentence
    assert "item" in tables(database)
    process = filled.run("alembic", "-x", "yes", "downgrade", "-1")
    assert process.returncode == 0
    assert "This downgrade destroys the table item (1 row)." in process.stderr
    assert tables(database) == {"alembic_version"}


def test_with_nothing_to_lose_it_goes_ahead(service: Service, database: URL) -> None:
    service.succeed("alembic", "upgrade", "head")
    service.succeed("alembic", "downgrade", "base")
    assert tables(database) == {"alembic_version"}


@pytest.mark.parametrize(
    ("upgrade", "downgrade", "fill", "lost"),
    [
        (*NOTE, "UPDATE item SET note = 'x'", "the column item.note (1 row)"),
        (*NOTE, "SELECT 1", None),
        (
            NOTE[0],
            "op.execute('ALTER TABLE item DROP note')",
            "UPDATE item SET note = 'x'",
            "the column item.note (1 row)",
        ),
        ("op.execute('CREATE TABLE \"A b\" (i int)')", "op.execute('drop table if exists \"A b\"')", "SELECT 1", None),
        (
            "op.execute('CREATE TABLE one (i int)')\nop.execute('CREATE TABLE two (i int)')",
            "op.execute('DROP TABLE one, public.two CASCADE')",
            "INSERT INTO two SELECT generate_series(1, 3)",
            "the table public.two (3 rows)",
        ),
        ("pass", "op.execute('TRUNCATE item')", "SELECT 1", "the table item (1 row)"),
        ("pass", "op.execute('DELETE FROM item WHERE id > 0')", "SELECT 1", "the table item (1 row)"),
        ("pass", "op.get_bind().execute(sa.text('SELECT 1')).scalar_one()", "SELECT 1", "can't be told beforehand"),
        ("pass", "op.rename_table('item', 'x')\nop.drop_table('x')", "SELECT 1", "can't be told beforehand"),
        (
            "pass",
            "op.drop_column('item', 'name')\nop.add_column('item', sa.Column('name', sa.Integer()))",
            "SELECT 1",
            "the column item.name (1 row)",
        ),
        (
            "pass",
            "op.alter_column('item', 'name', type_=sa.String(1), postgresql_using='left(name, 1)')",
            "SELECT 1",
            "the column item.name (1 row)",
        ),
        ("pass", "op.execute('TRUNCATE item CASCADE')", "SELECT 1", "can't be told"),
        ("op.execute('CREATE SCHEMA extra')", "op.execute('DROP SCHEMA extra CASCADE')", "SELECT 1", "can't be told"),
        ("pass", "op.execute('DO $$ BEGIN DROP TABLE item; END $$')", "SELECT 1", "can't be told beforehand"),
        ("pass", "op.create_table('x')\nop.drop_table('x')", "SELECT 1", None),
        ("pass", "op.alter_column('item', 'name', server_default=None)", "SELECT 1", None),
    ],
)
def test_what_is_lost(
    filled: Service, database: URL, upgrade: str, downgrade: str, fill: str, lost: str | None
) -> None:
    filled.add_revision("change", upgrade, downgrade)
    filled.succeed("alembic", "upgrade", "head")
    fetch(database, fill)
    if lost is None:
        filled.succeed("alembic", "downgrade", "-1")
    else:
        assert lost in filled.fail("alembic", "downgrade", "-1")
        filled.succeed("alembic", "-x", "yes", "downgrade", "-1")


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1), ("", 1)])
def test_a_person_is_asked(filled: Service, database: URL, answer: str, status: int) -> None:
    terminal, end = pty.openpty()
    environment = bare_environment(**filled.environment)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    os.write(terminal, f"{answer}\n".encode())
    command = ["alembic", "downgrade", "base"]
    process = subprocess.run(command, cwd=filled.folder, env=environment, stdin=end, capture_output=True, text=True)
    os.close(end)
    os.close(terminal)
    assert process.returncode == status
    assert "the table item (1 row).\nDowngrade? [y/N]" in process.stderr
    assert ("item" in tables(database)) == (status == 1)


def test_python_agrees_as_the_command_line_does(filled: Service, database: URL) -> None:
    program = """
from argparse import Namespace
from alembic import command
from alembic.config import Config
from safe_migrations.errors import MigrationError
try:
    command.downgrade(Config("alembic.ini"), "base")
except MigrationError as error:
    print(error)
command.downgrade(Config("alembic.ini", cmd_opts=Namespace(x=["yes"])), "base")
"""
    assert "destroys the table item (1 row)" in filled.succeed("python", "-c", program)
    assert tables(database) == {"alembic_version"}
