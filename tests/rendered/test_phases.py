"""Expand before the new code, contract after it, and nothing dangerous that nobody has acknowledged."""

import json
from pathlib import Path

import pytest
from sqlalchemy import URL

from safe_migrations.errors import BackfillError, NotConfirmedError
from support import NewRole, Service, fetch, tables

SAFE = ("safe-migrations",)
DEPLOY = (*SAFE, "deploy", "--without-backup")
EXPAND, CONTRACT = 'phase = "expand"', 'phase = "contract"'
ASKED = '# acknowledged = "the table item and its rows are lost"'

BACKFILL = """
import sqlalchemy as sa
from safe_migrations.backfills import Backfill

item = sa.table("item", sa.column("id"), sa.column("note"))
backfill = Backfill(table=item, key=("id",), where=item.c.note.is_(None), values={"note": "none"})
"""


def add(service: Service, name: str, phase: str = EXPAND) -> str:
    """A revision that leaves a trace, a schema of this name, and no drift."""
    return service.add_revision(name, f'op.execute("CREATE SCHEMA {name}")', f'op.execute("DROP SCHEMA {name}")', phase)


def ran(database: URL) -> set[str]:
    """The revisions that have left their trace."""
    query = "SELECT nspname FROM pg_namespace WHERE nspname IN ('first', 'second', 'third')"
    return {row.nspname for row in fetch(database, query)}


@pytest.fixture
def filled(at_head: Service, database: URL) -> Service:
    """A service at head, with an item."""
    fetch(database, "INSERT INTO item (name) VALUES ('a')")
    return at_head


def test_deploy_stops_before_the_first_contract_revision_and_goes_on_when_told(filled: Service, database: URL) -> None:
    first, second, third = (
        add(filled, "first"),
        add(filled, "second", CONTRACT),
        add(filled, "third", CONTRACT),
    )
    pending = json.loads(filled.run(*SAFE, "state", "--json").stdout)["pending"]
    assert [(revision["revision"], revision["phase"]) for revision in pending] == [
        (first, "expand"),
        (second, "contract"),
        (third, "contract"),
    ]
    assert (
        f"pending: 0003 A revision of a test. ({pending[1]['file']}), contract"
        in filled.run(*SAFE, "state").stdout.splitlines()
    )

    output = filled.succeed(*SAFE, "deploy")
    assert ran(database) == {"first"}
    waiting = "safe-migrations deploy --contract"
    assert all(part in output for part in (waiting, second, third))
    assert waiting in filled.succeed(*DEPLOY)  # again: nothing to do before that
    assert ran(database) == {"first"}

    assert "Verified: at head" in filled.succeed(*DEPLOY, "--contract")
    assert ran(database) == {"first", "second", "third"}


def test_contract_revisions_of_the_next_release_wait_for_its_code(filled: Service, database: URL) -> None:
    for name, phase in (("first", CONTRACT), ("second", EXPAND), ("third", CONTRACT)):
        add(filled, name, phase)
    process = filled.run(*DEPLOY)
    assert (process.returncode, "Do not deploy the new code yet" in process.stdout) == (4, True)
    assert not ran(database)
    filled.succeed(*DEPLOY, "--contract")
    assert ran(database) == {"first", "second"}
    filled.succeed(*DEPLOY, "--contract")
    assert ran(database) == {"first", "second", "third"}


def test_deploy_of_an_empty_database_and_upgrade_head_apply_all(service: Service, database: URL) -> None:
    add(service, "first", CONTRACT)
    service.succeed(*SAFE, "deploy")
    assert ran(database) == {"first"}
    add(service, "second", CONTRACT)
    service.succeed("alembic", "upgrade", "head")
    assert ran(database) == {"first", "second"}


def test_what_nobody_has_acknowledged_does_not_run(filled: Service, database: URL) -> None:
    add(filled, "first")
    filled.add_revision("drop", 'op.drop_table("item")', "pass", f"{CONTRACT}\n{ASKED}")
    file = filled.revisions()[-1]
    line = filled.versions.joinpath(file).read_text().splitlines().index(ASKED) + 1
    commands = (("alembic", "upgrade", "head", "--sql"), ("alembic", "upgrade", "head"))
    for command in commands:
        process = filled.run(*command)
        assert process.returncode == NotConfirmedError.exit_status
        assert f"\nalembic/versions/{file}:{line}: " in f"\n{process.stderr}"
        assert "the table item and its rows are lost" in process.stderr
        assert "alembic_version" not in process.stdout
    assert not ran(database)
    uncomment(filled.versions / file)
    for command in commands:
        filled.succeed(*command)


def test_a_downgrade_and_a_stamp_need_no_acknowledgement(filled: Service, database: URL) -> None:
    filled.add_revision("drop", 'op.drop_table("item")', 'op.create_table("item")', f"{CONTRACT}\n{ASKED}")
    filled.succeed("alembic", "stamp", "head")
    fetch(database, "DROP TABLE item")
    filled.succeed("alembic", "downgrade", "-1")
    assert "item" in tables(database)


def test_an_upgrade_from_python_asks_as_well(filled: Service, database: URL) -> None:
    filled.add_revision("drop", 'op.drop_table("item")', "pass", f"{CONTRACT}\n{ASKED}")
    program = """
from alembic import command
from alembic.config import Config
from sqlalchemy.ext.asyncio import create_async_engine
import asyncio, config, sys
async def main():
    engine = create_async_engine(config.load_settings().database_url)
    async with engine.begin() as connection:
        def upgrade(connection):
            command.upgrade(Config("alembic.ini", attributes={"connection": connection}), "head")
        await connection.run_sync(upgrade)
try:
    asyncio.run(main())
except Exception as error:
    print(type(error).__name__, error)
"""
    assert "NotConfirmedError alembic/versions/" in filled.succeed("python", "-c", program)
    assert "item" in tables(database)


def test_a_contract_revision_waits_for_its_backfill(filled: Service, database: URL) -> None:
    folder = filled.folder / "alembic" / "backfills"
    folder.mkdir(exist_ok=True)
    folder.joinpath("item_note.py").write_text(BACKFILL)
    filled.add_revision("note", 'op.add_column("item", sa.Column("note", sa.Text()))', 'op.drop_column("item", "note")')
    enforce = 'op.alter_column("item", "note", nullable=False)', 'op.alter_column("item", "note", nullable=True)'
    filled.add_revision("enforce", *enforce, f'{CONTRACT}\nrequires_backfill = "item_note"')
    first, second = (f"alembic/versions/{name}" for name in filled.revisions()[-2:])
    message = filled.fail("alembic", "upgrade", "head", kind=BackfillError)
    assert all(part in message for part in (f"({first})", f"{second} needs the backfill item_note"))
    assert message.endswith("\nsafe-migrations backfill item_note")
    filled.succeed(*SAFE, "backfill", "item_note")
    filled.succeed("alembic", "upgrade", "head")
    assert [row.note for row in fetch(database, "SELECT note FROM item")] == ["none"]
    filled.succeed("alembic", "-x", "yes", "downgrade", "base")
    filled.succeed("alembic", "upgrade", "head")  # of a table without rows


def test_deploy_makes_no_backup_before_a_refusal(filled: Service, database: URL) -> None:
    filled.add_revision("drop", 'op.drop_table("item")', "pass", f"{CONTRACT}\n{ASKED}")
    filled.fail(*SAFE, "deploy", "--contract", kind=NotConfirmedError)
    uncomment(filled.versions / filled.revisions()[-1])

    folder = filled.folder / "alembic" / "backfills"
    folder.mkdir()
    folder.joinpath("item_note.py").write_text(BACKFILL.replace("c.note.is_(None)", "c.id > 0").replace("note", "name"))
    file = filled.versions / filled.revisions()[-1]
    file.write_text(file.read_text().replace("acknowledged", 'requires_backfill = "item_note"\nacknowledged'))
    assert "needs the backfill item_note" in filled.fail(*SAFE, "deploy", "--contract")
    assert not list(filled.folder.glob("*.dump"))


def test_a_backfill_that_the_user_may_not_read_is_one_sentence(
    filled: Service, database: URL, new_role: NewRole
) -> None:
    folder = filled.folder / "alembic" / "backfills"
    folder.mkdir()
    folder.joinpath("item_note.py").write_text(BACKFILL.replace("note", "name"))
    filled.add_revision("late", "pass", "pass", f'{CONTRACT}\nrequires_backfill = "item_note"')
    role = new_role("LOGIN", "secret")
    fetch(database, f"GRANT SELECT ON alembic_version TO {role}")
    filled.configure(database.set(username=role, password="secret"))
    message = filled.fail(*SAFE, "deploy", "--contract")
    assert "permission denied for table item" in message
    assert "secret" not in message


def uncomment(file: Path) -> None:
    """Acknowledge what a revision file asks for."""
    file.write_text(file.read_text().replace("# acknowledged = ", "acknowledged = "))
