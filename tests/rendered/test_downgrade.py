"""A downgrade names what it destroys, and asks if rows are lost."""

import os
import pty
import signal

import pytest
from sqlalchemy import URL

from safe_migrations.errors import INTERRUPTED, NotConfirmedError
from support import Service, fetch, tables

LOCKS = """
    SELECT 1 FROM pg_locks
    WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@pytest.fixture
def filled(at_head: Service, database: URL) -> Service:
    """A service at head, with an item."""
    fetch(database, "INSERT INTO item (name) VALUES ('a')")
    return at_head


def test_rows_are_lost_only_if_somebody_agrees(filled: Service, database: URL) -> None:
    own = ("-x", "as-far-as-possible", "-x", "of=postgresql://u:secret/@h/d")
    sentence = filled.fail("alembic", *own, "downgrade", "-1", kind=NotConfirmedError)
    assert sentence.startswith("This downgrade destroys the table item (1 row).")
    assert sentence.endswith("\nalembic -x as-far-as-possible -x of=postgresql://***@h/d -x yes downgrade -1")
    assert "item" in tables(database)
    process = filled.run("alembic", "-x", "yes", "downgrade", "-1")
    assert process.returncode == 0
    assert "This downgrade destroys the table item (1 row)." in process.stderr
    assert tables(database) == {"alembic_version"}


def test_a_person_is_asked(filled: Service, database: URL) -> None:
    terminal, filled.stdin = pty.openpty()
    for answer, status in (("n", NotConfirmedError.exit_status), ("", NotConfirmedError.exit_status), ("y", 0)):
        os.write(terminal, f"{answer}\n".encode())
        process = filled.start("alembic", "downgrade", "base")
        _, stderr = process.communicate()
        assert process.returncode == status
        assert "the table item (1 row).\nDowngrade? [y/N]" in stderr
        assert ("item" in tables(database)) == (status != 0)
    os.close(filled.stdin)
    os.close(terminal)


def test_python_agrees_as_the_command_line_does(filled: Service, database: URL) -> None:
    program = """
from argparse import Namespace
from alembic import command
from alembic.config import Config
from safe_migrations import MigrationError
try:
    command.downgrade(Config("alembic.ini"), "base")
except MigrationError as error:
    print(error)
command.downgrade(Config("alembic.ini", cmd_opts=Namespace(x=["yes"])), "base")
"""
    assert "destroys the table item (1 row)" in filled.succeed("python", "-c", program)
    assert tables(database) == {"alembic_version"}


def test_ctrl_c_at_the_question_is_one_sentence_and_keeps_nobody_waiting(filled: Service, database: URL) -> None:
    terminal, end = pty.openpty()
    filled.stdin = end
    process = filled.start("alembic", "downgrade", "base")
    assert process.stderr is not None
    asked = process.stderr.read(len("This downgrade destroys the table item (1 row).\nDowngrade? [y/N] "))
    assert asked.endswith("Downgrade? [y/N] ")
    assert fetch(database, LOCKS) == []
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    os.close(end)
    os.close(terminal)
    assert (process.returncode, stderr.strip()) == (130, INTERRUPTED)
    assert "item" in tables(database)
