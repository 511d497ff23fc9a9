"""Concurrent indexes in revision files: they end valid or not at all, and any number of runs ends the same."""

import pytest
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from blocking_statement import wait_for
from lock_holder import end, holding, said
from safe_migrations.errors import LockedError, RevisionError
from support import MypyCache, Service, as_text, fetch

CREATE = 'op.create_index_concurrently("ix_item_stamp", "item", ["created_at"], unique=True)'
REBUILD = 'op.rebuild_index_concurrently("ix_item_stamp")'
SHORT = {"MIGRATION_RETRY_WINDOW": "2s", "MIGRATION_LOCK_TIMEOUT": "500ms"}
DROP = 'op.drop_index_concurrently("ix_item_stamp", table_name="item")'
LONGER = ("SET lock_timeout = '300000ms';", "SET statement_timeout = '0ms';")
AS_BEFORE = ("SET lock_timeout = '1000ms';", "SET statement_timeout = '900000ms';")
INDEXES = """
    SELECT i.relname, x.indisvalid FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
    WHERE x.indrelid = 'item'::regclass ORDER BY 1
"""
OWN = [("pk_item", True), ("uq_item_name", True)]
RECORD = (
    'op.execute("INSERT INTO seen SELECT current_setting($$lock_timeout$$), current_setting($$statement_timeout$$)")'
)


def indexes(database: URL) -> list[tuple[str, bool]]:
    """The table's indexes, and whether queries can use them."""
    return [(row.relname, row.indisvalid) for row in fetch(database, INDEXES)]


@pytest.fixture
def migrated(at_head: Service, database: URL) -> Service:
    """A service at head, with two items of the same time."""
    fetch(database, "INSERT INTO item (name, created_at) VALUES ('a', '2026-01-01'), ('b', '2026-01-01')")
    return at_head


def test_create_and_drop(migrated: Service, database: URL, mypy_cache: MypyCache) -> None:
    migrated.add_revision("stamp", CREATE.replace(", unique=True", ', postgresql_where=sa.text("id > 1")'), DROP)
    migrated.succeed("alembic", "upgrade", "head")
    assert indexes(database) == [("ix_item_stamp", True), *OWN]
    migrated.succeed("alembic", "downgrade", "-1")
    assert indexes(database) == OWN
    with mypy_cache() as cache:
        migrated.succeed("mypy", "--cache-dir", cache, ".")


def test_a_build_that_fails_leaves_nothing_and_the_next_one_goes_on(migrated: Service, database: URL) -> None:
    migrated.add_revision("stamp", CREATE)
    sentence = migrated.fail("alembic", "upgrade", "head")
    assert "20300101_0002_stamp.py:13 failed and was rolled back: could not create unique index" in sentence
    assert indexes(database) == OWN
    fetch(database, "UPDATE item SET created_at = now() WHERE name = 'b'")
    migrated.succeed("alembic", "upgrade", "head")
    assert indexes(database) == [("ix_item_stamp", True), *OWN]


@pytest.mark.parametrize("operation", [CREATE, REBUILD, DROP])
@pytest.mark.parametrize("hold", ["INSERT INTO item (name) VALUES ('c')", "SELECT * FROM item"])
def test_a_transaction_that_does_not_end_leaves_the_index_as_it_was(
    migrated: Service, database: URL, operation: str, hold: str
) -> None:
    """PostgreSQL would wait for that transaction half-way, with an invalid index that nobody can drop until it ends."""
    if operation != CREATE:
        fetch(database, "CREATE INDEX ix_item_stamp ON item (created_at)")
    before = indexes(database)
    migrated.add_revision("stamp", operation.replace(", unique=True", ""))
    with holding(database, hold) as pid:
        if (operation, hold[:6]) != (CREATE, "SELECT"):  # which no build waits for
            sentence = said(end(migrated.start("alembic", "upgrade", "head", **SHORT), LockedError.exit_status))
            assert "_stamp.py" in sentence
            assert sentence.splitlines()[-1] == f"safe-migrations locks --terminate {pid}"
            assert indexes(database) == before
    migrated.succeed("alembic", "upgrade", "head")
    assert indexes(database) == ([] if operation == DROP else [("ix_item_stamp", True)]) + OWN


def test_an_index_that_stays_when_its_revision_is_rolled_back_is_not_denied(migrated: Service, database: URL) -> None:
    build = CREATE.replace(", unique=True", "")
    migrated.add_revision("stamp", f'{build}\nop.drop_column("item", "missing")')
    migrated.environment |= SHORT
    with holding(database, "SELECT * FROM item"):
        assert "except for its concurrent operations" in migrated.fail("alembic", "upgrade", "head", kind=LockedError)
    assert "except for its concurrent operations" in migrated.fail("alembic", "upgrade", "head", kind=RevisionError)
    assert indexes(database) == [("ix_item_stamp", True), *OWN]


def test_what_a_build_has_to_leave_is_named(migrated: Service, database: URL) -> None:
    """The build waits for a snapshot, and its index can't be dropped because of a writer who came later."""
    migrated.add_revision("stamp", CREATE.replace(", unique=True", ""))
    with holding(database, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1"):
        process = migrated.start("alembic", "upgrade", "head", **SHORT)
        wait_for(database, "SELECT indexrelid FROM pg_index WHERE indisready AND NOT indisvalid")
        with holding(database, "INSERT INTO item (name) VALUES ('c')"):
            sentence = said(end(process, LockedError.exit_status))
            assert indexes(database) == [("ix_item_stamp", False), *OWN]
            assert "ix_item_stamp" in sentence
    migrated.succeed("alembic", "upgrade", "head")
    assert indexes(database) == [("ix_item_stamp", True), *OWN]


def test_an_invalid_leftover_is_replaced(migrated: Service, database: URL) -> None:
    """Stock `IF NOT EXISTS` takes it for done."""
    with pytest.raises(DBAPIError, match="could not create unique index"):
        fetch(database, "CREATE UNIQUE INDEX CONCURRENTLY ix_item_stamp ON item (created_at)")
    assert indexes(database) == [("ix_item_stamp", False), *OWN]
    migrated.add_revision("stamp", CREATE.replace(", unique=True", ""))
    migrated.succeed("alembic", "upgrade", "head")
    assert indexes(database) == [("ix_item_stamp", True), *OWN]


def test_stock_skips_an_invalid_leftover(migrated: Service, database: URL) -> None:
    migrated.use_stock_environment()
    with pytest.raises(DBAPIError, match="could not create unique index"):
        fetch(database, "CREATE UNIQUE INDEX CONCURRENTLY ix_item_stamp ON item (created_at)")
    migrated.add_revision(
        "stamp",
        """
        with op.get_context().autocommit_block():
            op.execute("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS ix_item_stamp ON item (created_at)")
        """,
    )
    migrated.succeed("alembic", "upgrade", "head")
    assert indexes(database) == [("ix_item_stamp", False), *OWN]


def test_an_index_that_is_there_is_taken_only_if_it_is_the_same(migrated: Service, database: URL) -> None:
    """As after a kill between the build and the record of the revision."""
    fetch(database, "CREATE INDEX ix_item_stamp ON item (lower(name)) INCLUDE (created_at) WHERE id > 1")
    arguments = '[sa.text("lower(name)")], postgresql_include=["created_at"], postgresql_where=sa.text("id > 1")'
    same = f'op.create_index_concurrently("ix_item_stamp", "item", {arguments})'
    migrated.add_revision("same", same)
    migrated.add_revision("other", same.replace("id > 1", "id > 2"))
    sentence = migrated.fail("alembic", "upgrade", "head")
    assert "20300101_0003_other.py:13 failed" in sentence
    assert "An index ix_item_stamp exists" in sentence
    assert "(alembic/versions/20300101_0002_same.py)" in sentence
    assert indexes(database) == [("ix_item_stamp", True), *OWN]


def test_a_rebuild_removes_what_earlier_ones_have_left(migrated: Service, database: URL) -> None:
    fetch(database, "CREATE INDEX ix_item_stamp ON item (created_at)")
    with pytest.raises(DBAPIError, match="could not create unique index"):
        fetch(database, "CREATE UNIQUE INDEX CONCURRENTLY ix_item_stamp_ccnew ON item (created_at)")
    before = fetch(database, "SELECT 'ix_item_stamp'::regclass::oid, pg_relation_filenode('ix_item_stamp')")
    migrated.add_revision("rebuild", 'op.rebuild_index_concurrently("ix_item_stamp")')
    migrated.add_revision("missing", 'op.rebuild_index_concurrently("ix_missing")')
    assert 'relation "ix_missing" does not exist' in migrated.fail("alembic", "upgrade", "head")
    assert indexes(database) == [("ix_item_stamp", True), *OWN]
    assert fetch(database, "SELECT 'ix_item_stamp'::regclass::oid, pg_relation_filenode('ix_item_stamp')") != before


def test_an_index_is_in_the_schema_of_its_table(migrated: Service, database: URL) -> None:
    """And not where the search path has another index of this name."""
    fetch(database, "CREATE SCHEMA tenant")
    fetch(database, "CREATE TABLE tenant.thing (id int)")
    fetch(database, "CREATE INDEX ix_item_stamp ON item (created_at)")
    fetch(database, f'ALTER DATABASE "{database.database}" SET search_path = public, tenant')
    migrated.add_revision("create", 'op.create_index_concurrently("ix_item_stamp", "thing", ["id"])')
    migrated.succeed("alembic", "upgrade", "head")
    found = "SELECT to_regclass('tenant.ix_item_stamp') IS NOT NULL, to_regclass('public.ix_item_stamp') IS NOT NULL"
    assert tuple(fetch(database, found)[0]) == (True, True)
    migrated.add_revision("drop", 'op.drop_index_concurrently("ix_item_stamp", "thing")')
    migrated.succeed("alembic", "upgrade", "head")
    assert tuple(fetch(database, found)[0]) == (False, True)


LONG_NAME = f"ix_item_{'x' * 55}"
PARTS = """
    SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
    WHERE NOT x.indisvalid AND x.indrelid::regclass::text IN ('item', 'part', 'one')
"""


@pytest.mark.parametrize("name", ["ix_part", LONG_NAME])
def test_a_rebuild_of_a_partition_or_with_a_long_name_goes_on(migrated: Service, database: URL, name: str) -> None:
    """After a rebuild has left what it began, which is named after a partition, or by a shortened name."""
    fetch(database, "CREATE TABLE part (id int) PARTITION BY RANGE (id)")
    fetch(database, "CREATE TABLE one PARTITION OF part FOR VALUES FROM (0) TO (9)")
    fetch(database, "INSERT INTO part VALUES (1), (1)")
    fetch(database, "CREATE INDEX ix_part ON part (id)")
    fetch(database, f"CREATE INDEX {LONG_NAME} ON item (created_at)")
    migrated.add_revision("rebuild", f'op.rebuild_index_concurrently("{name}")')
    migrated.environment |= SHORT
    if name == "ix_part":
        with holding(database, "SELECT FROM one"):
            sentence = migrated.fail("alembic", "upgrade", "head", kind=LockedError)
        assert "The index was not changed" in sentence
        assert fetch(database, PARTS) == []
    table, column, left = ("one", "id", "one_id_idx") if name == "ix_part" else ("item", "created_at", name[:57])
    with pytest.raises(DBAPIError, match="could not create unique index"):
        fetch(database, f"CREATE UNIQUE INDEX CONCURRENTLY {left}_ccnew ON {table} ({column})")
    migrated.succeed("alembic", "upgrade", "head")
    assert fetch(database, PARTS) == []


def test_settings_are_the_build_s_own_and_restored(migrated: Service, database: URL) -> None:
    migrated.add_revision("seen", 'op.execute("CREATE TABLE seen (lock_timeout text, statement_timeout text)")')
    migrated.add_revision("stamp", f"{CREATE.replace(', unique=True', '')}\n{RECORD}")
    migrated.add_revision("next", RECORD)
    migrated.environment |= {"MIGRATION_LOCK_TIMEOUT": "1500ms", "MIGRATION_STATEMENT_TIMEOUT": "20s"}
    migrated.succeed("alembic", "upgrade", "head")
    (settings,) = fetch(database, "SELECT DISTINCT * FROM seen")
    assert tuple(settings) == ("1500ms", "20s")


def test_the_settings_of_a_build_come_from_the_service_s_file(migrated: Service, database: URL) -> None:
    """Not from os.environ, where only a config.py that env.py calls would have put them."""
    run_env = f"from safe_migrations import run_env\n\nrun_env(database_url={as_text(database)!r})\n"
    migrated.folder.joinpath("alembic", "env.py").write_text(run_env)
    migrated.folder.joinpath(".env").write_text("MIGRATION_RETRY_WINDOW=1500ms\n")
    migrated.add_revision("stamp", CREATE)
    with holding(database, "INSERT INTO item (name) VALUES ('c')"):
        assert "1.5 s" in said(end(migrated.start("alembic", "upgrade", "head"), LockedError.exit_status))


def test_an_index_after_another_change_is_refused(migrated: Service, database: URL) -> None:
    """What was changed before it could not be rolled back: stock keeps that half, and the re-run dies of it."""
    column = 'op.add_column("item", sa.Column("note", sa.Text()))'
    migrated.add_revision("both", f"{column}\n{CREATE}")
    assert "concurrent index must come first" in migrated.fail("alembic", "upgrade", "head", kind=RevisionError)
    assert fetch(database, "SELECT 1 FROM pg_attribute WHERE attname = 'note'") == []


def test_stock_keeps_half_a_revision(migrated: Service, database: URL) -> None:
    migrated.use_stock_environment()
    block = "with op.get_context().autocommit_block():\n    "
    create = 'op.create_index("ix_item_stamp", "item", ["created_at"], unique=True, postgresql_concurrently=True)'
    migrated.add_revision("both", f'op.add_column("item", sa.Column("note", sa.Text()))\n{block}{create}')
    assert migrated.run("alembic", "upgrade", "head").returncode != 0
    assert len(fetch(database, "SELECT 1 FROM pg_attribute WHERE attname = 'note'")) == 1
    assert "already exists" in migrated.run("alembic", "upgrade", "head").stderr


def test_names_that_need_quotes(migrated: Service, database: URL) -> None:
    fetch(database, 'CREATE SCHEMA "Odd %s"')
    fetch(database, 'CREATE TABLE "Odd %s"."Table ""x""" ("a:b" int)')
    arguments = """'Index %(x)s :y', 'Table "x"', ["a:b"], schema="Odd %s\""""
    migrated.add_revision(
        "odd",
        f"op.create_index_concurrently({arguments})\nop.rebuild_index_concurrently('Index %(x)s :y', schema='Odd %s')",
        "op.drop_index_concurrently('Index %(x)s :y', schema='Odd %s')",
    )
    migrated.succeed("alembic", "upgrade", "head")
    migrated.succeed("alembic", "downgrade", "-1")
    assert fetch(database, "SELECT 1 FROM pg_class WHERE relname LIKE 'Index %'") == []


def test_offline_they_are_plain_sql(migrated: Service) -> None:
    migrated.add_revision("stamp", CREATE, DROP)
    migrated.add_revision("again", 'op.rebuild_index_concurrently("ix_item_stamp")')
    sql = migrated.succeed("alembic", "upgrade", "head", "--sql")
    create = "CREATE UNIQUE INDEX CONCURRENTLY ix_item_stamp ON item (created_at);"
    for statement in (create, "REINDEX INDEX CONCURRENTLY ix_item_stamp;"):
        before, after = "\n\n".join(LONGER), "\n\n".join(AS_BEFORE)
        assert f"COMMIT;\n\n{before}\n\n{statement}\n\n{after}\n\nBEGIN;" in sql
