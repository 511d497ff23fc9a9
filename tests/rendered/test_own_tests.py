"""The tests that a service gets: they pass, leave nothing behind, and fail when what they guard is broken."""

import re

import pytest
from sqlalchemy import URL

from support import Render, Service, as_text, fetch


def run_own_tests(service: Service, expected_status: int, select: str = "") -> str:
    process = service.run("pytest", "--quiet", "-p", "no:cacheprovider", "-k", select)
    assert process.returncode == expected_status, process.stdout + process.stderr
    return process.stdout


def test_they_start_an_embedded_server_and_leave_nothing(render: Render) -> None:
    service = render(outbox=True)
    before = {path.name for path in service.folder.iterdir()}
    temporary = service.folder.parent / "temporary"
    temporary.mkdir(mode=0o755)
    service.environment["TMPDIR"] = str(temporary)
    service.environment["PYTEST_DEBUG_TEMPROOT"] = str(service.folder.parent)
    assert " passed" in run_own_tests(service, 0)
    assert {path.name for path in service.folder.iterdir()} - before <= {"__pycache__"}
    assert list(temporary.iterdir()) == [], "the embedded server and its folder are gone"


@pytest.mark.thorough("the journey runs them beside a configured database, which goes on as it was")
def test_they_do_not_touch_the_configured_database(service: Service) -> None:
    (service.folder / ".env").write_text("ORDERS_DATABASE_URL=postgresql://user:secret@127.0.0.1:1/production\n")
    service.environment.clear()
    run_own_tests(service, 0)


# A statement before context.configure() begins a transaction that nobody commits.
ROLLED_BACK = """
from alembic.runtime.environment import EnvironmentContext

configure = EnvironmentContext.configure


def after_a_statement(self, connection=None, **options):
    if connection is not None:
        connection.exec_driver_sql("SELECT 1")
    configure(self, connection, **options)


EnvironmentContext.configure = after_a_statement
"""
PLUGIN = 'pytest_plugins = ["safe_migrations.testing"]\n'
UPGRADE = "def upgrade() -> None:\n"
# What is broken at once, and which test finds each.
BROKEN = [
    [
        ("alembic/versions", 'op.drop_table("item")', "pass", "test_stairway"),
        (
            "alembic/versions",
            UPGRADE,
            f"{UPGRADE}    if op.get_context().as_sql:\n        return\n",
            "test_offline_sql_runs_through_psql",
        ),
        ("models_db.py", '{"eager_defaults": True}', "{}", "test_session_writes_and_reads"),
        ("config.py", "    load_env_files(SERVICE_FOLDER)\n", "", "test_environment_wins_over_file"),
        ("config.py", "if self.migration_url else", "if False else", "test_migrations_may_have_a_url_of_their_own"),
    ],
    [
        ("models_db.py", "name: Mapped[str]", "name: Mapped[str | None]", "test_models_equal_schema"),
        (
            "database.py",
            "settings.database_url",
            'settings.database_url.set(database="postgres")',
            "test_session_writes_and_reads",
        ),
    ],
    [("tests/conftest.py", PLUGIN, PLUGIN + ROLLED_BACK, "test_upgrade_persists")],
]


@pytest.mark.parametrize("broken", BROKEN, ids=["most", "models-and-engine", "rolled-back"])
def test_they_fail_when_what_they_guard_is_broken(
    render: Render, server: URL, broken: list[tuple[str, str, str, str]]
) -> None:
    service = render()
    service.environment["ORDERS_TEST_DATABASE_URL"] = as_text(server)
    for file, old, new, _ in broken:
        path = service.folder / file
        (path,) = path.glob("*.py") if path.is_dir() else [path]
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    tests = {test for *_, test in broken}
    output = run_own_tests(service, 1, select=" or ".join(tests))
    assert set(re.findall(r"^FAILED \S+::(\w+)", output, re.MULTILINE)) == tests


@pytest.mark.parametrize("name", ["20200101_0001_second.py", "second.py"], ids=["same-number", "no-number"])
def test_they_refuse_revision_files_out_of_order(service: Service, name: str) -> None:
    service.succeed("alembic", "revision", "-m", "second")
    path = service.folder / "alembic" / "versions" / service.revisions()[1]
    path.rename(path.with_name(name))
    assert name in run_own_tests(service, 1, select="test_files_are_in_order")


def test_they_check_what_new_revisions_do_to_tables_with_rows(service: Service, server: URL) -> None:
    service.environment = {"ORDERS_TEST_DATABASE_URL": as_text(server)}
    select = "test_new_revisions"
    expand, agreed = 'phase = "expand"', 'phase = "expand"\nacknowledged = "item is locked while it is rewritten"'
    add_uuid = 'op.add_column("item", sa.Column("{}", sa.Uuid(), server_default=sa.text("gen_random_uuid()")))'
    service.add_revision("agreed", add_uuid.format("first"), declarations=agreed)
    service.add_revision(
        "safe", 'op.create_index_concurrently("ix_item_created_at", "item", ["created_at"])', declarations=expand
    )
    run_own_tests(service, 0, select)
    service.add_revision("rewrite", add_uuid.format("second"), declarations=expand)
    service.add_revision("index", 'op.create_index("ix_item_updated_at", "item", ["updated_at"])', declarations=expand)
    service.add_revision("drop", 'op.drop_column("item", "name")', declarations=expand)
    output = run_own_tests(service, 1, select)
    for slug, names in {
        "0004_rewrite": ["table item", "ACCESS EXCLUSIVE", "blocking reads and writes"],
        "0005_index": ["table item (CREATE INDEX ix_item_updated_at ON item", "SHARE on item", "blocking writes"],
        "0006_drop": ["drops the column item.name"],
    }.items():
        (sentence,) = (line for line in output.splitlines() if f"alembic/versions/20300101_{slug}.py (expand) " in line)
        assert all(name in sentence for name in names), sentence
    assert output.count("alembic/versions/") == 3


def test_outbox_is_written_with_the_change_and_read_in_order(render: Render, database: URL) -> None:
    service = render(outbox=True)
    service.configure(database)
    service.succeed("alembic", "upgrade", "head")
    program = """
import asyncio
from sqlalchemy import select
from config import load_settings
from database import create_engine, create_session_factory
from models_db import EventOutbox, Item

def event(number):
    return EventOutbox(aggregate_type="item", aggregate_id="1", event_type="added", payload={"number": number})

async def main():
    engine = create_engine(load_settings())
    session_factory = create_session_factory(engine)
    async with session_factory.begin() as session:
        session.add_all([Item(name="first"), event(1), event(2)])
    async with session_factory() as session:
        session.add_all([Item(name="rolled back"), event(3)])
        await session.flush()
    unpublished = select(EventOutbox).where(EventOutbox.published_at.is_(None)).order_by(EventOutbox.id)
    async with session_factory.begin() as session:
        print([row.payload["number"] for row in await session.scalars(unpublished.with_for_update(skip_locked=True))])
    await engine.dispose()

asyncio.run(main())
"""
    assert service.succeed("python", "-c", program).strip() == "[1, 2]"
    (index,) = fetch(database, "SELECT indexdef FROM pg_indexes WHERE indexname = 'ix_event_outbox_unpublished'")
    assert "WHERE (published_at IS NULL)" in index.indexdef
