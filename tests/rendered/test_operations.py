"""Concurrent indexes in revision files: they end valid or not at all, and any number of runs ends the same."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from blocking_statement import wait_for
from lock_holder import holding
from plain_project import PlainProject
from safe_migrations.errors import LockedError, RevisionError
from support import Service, as_text, fetch

CREATE = 'op.create_index_concurrently("ix_item_stamp", "item", ["created_at"], unique=True)'
REBUILD = 'op.rebuild_index_concurrently("ix_item_stamp")'
DROP = 'op.drop_index_concurrently("ix_item_stamp", table_name="item")'
LONGER = ("SET lock_timeout = '300000ms';", "SET statement_timeout = '0ms';")
AS_BEFORE = ("SET lock_timeout = '1000ms';", "SET statement_timeout = '900000ms';")
INDEXES = """
    SELECT i.relname, x.indisvalid FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
    WHERE x.indrelid = 'item'::regclass ORDER BY 1
"""
OWN = [("item_pkey", True)]
ITEM = """
    CREATE TABLE item (id int PRIMARY KEY, name text, created_at timestamptz DEFAULT now());
    INSERT INTO item VALUES (1, 'a', '2026-01-01'), (2, 'b', '2026-01-01')
"""
RECORD = (
    'op.execute("INSERT INTO seen SELECT current_setting($$lock_timeout$$), current_setting($$statement_timeout$$)")'
)


def indexes(database: URL) -> list[tuple[str, bool]]:
    """The table's indexes, and whether queries can use them."""
    return [(row.relname, row.indisvalid) for row in fetch(database, INDEXES)]


@pytest.fixture
def project(tmp_path: Path, database: URL) -> PlainProject:
    """A project whose database has two items of the same time."""
    project = PlainProject(tmp_path / "project", database)
    project.begin("item", ITEM)
    return project


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks are waited for shortly."""
    monkeypatch.setenv("MIGRATION_RETRY_WINDOW", "1s")
    monkeypatch.setenv("MIGRATION_LOCK_TIMEOUT", "300ms")


def upgrade(project: PlainProject, revision: str, body: str, after: str = "item", downgrade: str = "pass") -> None:
    """Add a revision, and upgrade."""
    project.add(revision, body, downgrade, after=after)
    project.alembic(command.upgrade, "head")


def test_create_and_drop(project: PlainProject, database: URL) -> None:
    create = CREATE.replace(", unique=True", ', postgresql_where=sa.text("id > 1")')
    upgrade(project, "stamp", create, downgrade=DROP)
    assert indexes(database) == [*OWN, ("ix_item_stamp", True)]
    project.alembic(command.downgrade, "-1")
    assert indexes(database) == OWN


def test_a_build_that_fails_leaves_nothing_and_the_next_one_goes_on(project: PlainProject, database: URL) -> None:
    with pytest.raises(
        RevisionError, match=r"stamp\.py:13 failed and was rolled back: could not create unique index"
    ) as error:
        upgrade(project, "stamp", CREATE)
    assert [row[-1] for row in fetch(database, str(error.value).splitlines()[-1])] == [2], "the query of the message"
    assert indexes(database) == OWN
    fetch(database, "UPDATE item SET created_at = now() WHERE name = 'b'")
    project.alembic(command.upgrade, "head")
    assert indexes(database) == [*OWN, ("ix_item_stamp", True)]


@pytest.mark.parametrize("hold", ["INSERT INTO item VALUES (3)", "SELECT * FROM item"])
def test_a_transaction_that_does_not_end_leaves_the_index_as_it_was(
    project: PlainProject, database: URL, impatient: None, hold: str
) -> None:
    """PostgreSQL would wait for that transaction half-way, with an invalid index that nobody can drop until it ends."""
    after, there = "item", [*OWN, ("ix_item_stamp", True)]
    for name, operation in (("create", CREATE.replace(", unique=True", "")), ("rebuild", REBUILD), ("drop", DROP)):
        project.add(name, operation, after=after)
        before, after = indexes(database), name
        with holding(database, hold) as pid:
            if (name, hold[:6]) != ("create", "SELECT"):  # which no build waits for
                with pytest.raises(LockedError, match=rf"{name}\.py") as error:
                    project.alembic(command.upgrade, "head")
                assert str(error.value).splitlines()[-1] == f"safe-migrations locks --terminate {pid}"
                assert indexes(database) == before
        project.alembic(command.upgrade, "head")
        assert indexes(database) == (OWN if name == "drop" else there)


def test_an_index_that_stays_when_its_revision_is_rolled_back_is_not_denied(
    project: PlainProject, database: URL, impatient: None
) -> None:
    build = CREATE.replace(", unique=True", "")
    project.add("stamp", f'{build}\nop.drop_column("item", "missing")', after="item")
    with (
        holding(database, "SELECT * FROM item"),
        pytest.raises(LockedError, match="except for its concurrent operations"),
    ):
        project.alembic(command.upgrade, "head")
    with pytest.raises(RevisionError, match="except for its concurrent operations"):
        project.alembic(command.upgrade, "head")
    assert indexes(database) == [*OWN, ("ix_item_stamp", True)]


def test_what_a_build_has_to_leave_is_named(project: PlainProject, database: URL, impatient: None) -> None:
    """The build waits for a snapshot, and its index can't be dropped because of a writer who came later."""
    snapshot = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1"
    with ThreadPoolExecutor(max_workers=1) as executor, holding(database, snapshot):
        running = executor.submit(upgrade, project, "stamp", CREATE.replace(", unique=True", ""))
        wait_for(database, "SELECT indexrelid FROM pg_index WHERE indisready AND NOT indisvalid")
        with holding(database, "INSERT INTO item VALUES (3)"):
            with pytest.raises(LockedError, match="ix_item_stamp"):
                running.result()
            assert indexes(database) == [*OWN, ("ix_item_stamp", False)]
    project.alembic(command.upgrade, "head")
    assert indexes(database) == [*OWN, ("ix_item_stamp", True)]


def test_an_invalid_leftover_is_replaced(project: PlainProject, database: URL) -> None:
    """Stock `IF NOT EXISTS` takes it for done."""
    with pytest.raises(DBAPIError, match="could not create unique index"):
        fetch(database, "CREATE UNIQUE INDEX CONCURRENTLY ix_item_stamp ON item (created_at)")
    assert indexes(database) == [*OWN, ("ix_item_stamp", False)]
    upgrade(project, "stamp", CREATE.replace(", unique=True", ""))
    assert indexes(database) == [*OWN, ("ix_item_stamp", True)]


def test_stock_skips_an_invalid_leftover_and_keeps_half_a_revision(at_head: Service, database: URL) -> None:
    at_head.use_stock_environment()
    fetch(database, "INSERT INTO item (name, created_at) VALUES ('a', '2026-01-01'), ('b', '2026-01-01')")
    with pytest.raises(DBAPIError, match="could not create unique index"):
        fetch(database, "CREATE UNIQUE INDEX CONCURRENTLY ix_item_stamp ON item (created_at)")
    before = indexes(database)
    assert ("ix_item_stamp", False) in before
    column = 'op.add_column("item", sa.Column("note", sa.Text()))'
    at_head.add_revision(
        "both",
        f"""
        with op.get_context().autocommit_block():
            op.execute("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS ix_item_stamp ON item (created_at)")
        {column}
        with op.get_context().autocommit_block():
            op.create_index("ix_item_at", "item", ["created_at"], unique=True, postgresql_concurrently=True)
        """,
    )
    assert at_head.run("alembic", "upgrade", "head").returncode != 0
    assert indexes(database) == sorted([*before, ("ix_item_at", False)])
    assert len(fetch(database, "SELECT 1 FROM pg_attribute WHERE attname = 'note'")) == 1
    assert "already exists" in at_head.run("alembic", "upgrade", "head").stderr


def test_an_index_that_is_there_is_taken_only_if_it_is_the_same(project: PlainProject, database: URL) -> None:
    """As after a kill between the build and the record of the revision."""
    fetch(database, "CREATE INDEX ix_item_stamp ON item (lower(name)) INCLUDE (created_at) WHERE id > 1")
    arguments = '[sa.text("lower(name)")], postgresql_include=["created_at"], postgresql_where=sa.text("id > 1")'
    same = f'op.create_index_concurrently("ix_item_stamp", "item", {arguments})'
    project.add("same", same, after="item")
    with pytest.raises(RevisionError, match=r"other\.py:13 failed .*An index ix_item_stamp exists.*same\.py\)"):
        upgrade(project, "other", same.replace("id > 1", "id > 2"), after="same")
    assert indexes(database) == [*OWN, ("ix_item_stamp", True)]


def test_a_rebuild_removes_what_earlier_ones_have_left(project: PlainProject, database: URL) -> None:
    fetch(database, "CREATE INDEX ix_item_stamp ON item (created_at)")
    with pytest.raises(DBAPIError, match="could not create unique index"):
        fetch(database, "CREATE UNIQUE INDEX CONCURRENTLY ix_item_stamp_ccnew ON item (created_at)")
    before = fetch(database, "SELECT 'ix_item_stamp'::regclass::oid, pg_relation_filenode('ix_item_stamp')")
    project.add("rebuild", REBUILD, after="item")
    with pytest.raises(RevisionError, match='relation "ix_missing" does not exist'):
        upgrade(project, "missing", 'op.rebuild_index_concurrently("ix_missing")', after="rebuild")
    assert indexes(database) == [*OWN, ("ix_item_stamp", True)]
    assert fetch(database, "SELECT 'ix_item_stamp'::regclass::oid, pg_relation_filenode('ix_item_stamp')") != before


def test_an_index_is_in_the_schema_of_its_table(project: PlainProject, database: URL) -> None:
    """And not where the search path has another index of this name."""
    fetch(database, "CREATE SCHEMA tenant")
    fetch(database, "CREATE TABLE tenant.thing (id int)")
    fetch(database, "CREATE INDEX ix_item_stamp ON item (created_at)")
    fetch(database, f'ALTER DATABASE "{database.database}" SET search_path = public, tenant')
    upgrade(project, "create", 'op.create_index_concurrently("ix_item_stamp", "thing", ["id"])')
    query = "SELECT to_regclass('tenant.ix_item_stamp') IS NOT NULL, to_regclass('public.ix_item_stamp') IS NOT NULL"
    assert tuple(fetch(database, query)[0]) == (True, True)
    upgrade(project, "drop", 'op.drop_index_concurrently("ix_item_stamp", "thing")', after="create")
    assert tuple(fetch(database, query)[0]) == (False, True)


LONG_NAME = f"ix_item_{'x' * 55}"
PARTS = """
    SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
    WHERE NOT x.indisvalid AND x.indrelid::regclass::text IN ('item', 'part', 'one')
"""


def test_a_rebuild_of_a_partition_or_with_a_long_name_goes_on(
    project: PlainProject, database: URL, impatient: None
) -> None:
    """After a rebuild has left what it began, which is named after a partition, or by a shortened name."""
    fetch(database, "CREATE TABLE part (id int) PARTITION BY RANGE (id)")
    fetch(database, "CREATE TABLE one PARTITION OF part FOR VALUES FROM (0) TO (9)")
    fetch(database, "INSERT INTO part VALUES (1), (1)")
    fetch(database, "CREATE INDEX ix_part ON part (id)")
    fetch(database, f"CREATE INDEX {LONG_NAME} ON item (created_at)")
    project.add(
        "rebuild",
        f'op.rebuild_index_concurrently("ix_part")\nop.rebuild_index_concurrently("{LONG_NAME}")',
        after="item",
    )
    with (
        holding(database, "SELECT FROM one"),
        pytest.raises(LockedError, match="The index was not changed"),
    ):
        project.alembic(command.upgrade, "head")
    assert fetch(database, PARTS) == []
    for left, place in (("one_id_idx", "one (id)"), (LONG_NAME[:57], "item (created_at)")):
        with pytest.raises(DBAPIError, match="could not create unique index"):
            fetch(database, f"CREATE UNIQUE INDEX CONCURRENTLY {left}_ccnew ON {place}")
    project.alembic(command.upgrade, "head")
    assert fetch(database, PARTS) == []


def test_settings_are_the_build_s_own_and_restored(
    project: PlainProject, database: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIGRATION_LOCK_TIMEOUT", "1500ms")
    monkeypatch.setenv("MIGRATION_STATEMENT_TIMEOUT", "20s")
    fetch(database, "CREATE TABLE seen (lock_timeout text, statement_timeout text)")
    project.add("stamp", f"{CREATE.replace(', unique=True', '')}\n{RECORD}", after="item")
    upgrade(project, "next", RECORD, after="stamp")
    assert [tuple(row) for row in fetch(database, "SELECT * FROM seen")] == [("1500ms", "20s")] * 2


def test_the_settings_of_a_build_come_from_the_service_s_file(at_head: Service, database: URL) -> None:
    """Not from os.environ, where only a config.py that env.py calls would have put them."""
    run_env = f"from safe_migrations import run_env\n\nrun_env(database_url={as_text(database)!r})\n"
    at_head.folder.joinpath("alembic", "env.py").write_text(run_env)
    at_head.folder.joinpath(".env").write_text("MIGRATION_RETRY_WINDOW=1500ms\n")
    at_head.add_revision("stamp", CREATE)
    with holding(database, "INSERT INTO item (name) VALUES ('c')"):
        assert "1.5 s" in at_head.fail("alembic", "upgrade", "head", kind=LockedError)


def test_an_index_after_another_change_is_refused(project: PlainProject, database: URL) -> None:
    """What was changed before it could not be rolled back: stock keeps that half, and the re-run dies of it."""
    with pytest.raises(RevisionError, match="concurrent index must come first"):
        upgrade(project, "both", f'op.add_column("item", sa.Column("note", sa.Text()))\n{CREATE}')
    assert fetch(database, "SELECT 1 FROM pg_attribute WHERE attname = 'note'") == []


def test_names_that_need_quotes(project: PlainProject, database: URL) -> None:
    fetch(database, 'CREATE SCHEMA "Odd %s"')
    fetch(database, 'CREATE TABLE "Odd %s"."Table ""x""" ("a:b" int)')
    arguments = """'Index %(x)s :y', 'Table "x"', ["a:b"], schema="Odd %s\""""
    upgrade(
        project,
        "odd",
        f"op.create_index_concurrently({arguments})\nop.rebuild_index_concurrently('Index %(x)s :y', schema='Odd %s')",
        downgrade="op.drop_index_concurrently('Index %(x)s :y', schema='Odd %s')",
    )
    assert len(fetch(database, "SELECT 1 FROM pg_class WHERE relname LIKE 'Index %'")) == 1
    project.alembic(command.downgrade, "-1")
    assert fetch(database, "SELECT 1 FROM pg_class WHERE relname LIKE 'Index %'") == []


def test_offline_they_are_plain_sql(project: PlainProject) -> None:
    project.add("stamp", CREATE, DROP, after="item")
    project.add("again", REBUILD, after="stamp")
    config = project.config()
    config.output_buffer = io.StringIO()
    command.upgrade(config, "head", sql=True)
    create = "CREATE UNIQUE INDEX CONCURRENTLY ix_item_stamp ON item (created_at);"
    for statement in (create, "REINDEX INDEX CONCURRENTLY ix_item_stamp;"):
        before, after = "\n\n".join(LONGER), "\n\n".join(AS_BEFORE)
        assert f"COMMIT;\n\n{before}\n\n{statement}\n\n{after}\n\nBEGIN;" in config.output_buffer.getvalue()
