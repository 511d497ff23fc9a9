"""Partitioned tables, of which the models declare the parent alone."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from sqlalchemy import URL

from alembic_in_process import Inside, schema
from blocking_statement import wait_for
from lock_holder import holding
from safe_migrations.errors import RevisionError
from safe_migrations.upgrade.phases import unacknowledged
from support import Render, fetch

PARTITIONS = """
    DO $$ BEGIN
      CREATE SCHEMA archive;
      CREATE TABLE measurement_2025 PARTITION OF measurement FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
      CREATE TABLE archive."measurement 2024" PARTITION OF measurement FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')
        PARTITION BY LIST (station);
      CREATE TABLE archive.north PARTITION OF archive."measurement 2024" FOR VALUES IN ('north');
      CREATE TABLE archive.rest PARTITION OF archive."measurement 2024" DEFAULT;
      INSERT INTO measurement SELECT '2024-01-01'::date + n, CASE n % 2 WHEN 1 THEN 'north' ELSE 'south' END, n
        FROM generate_series(0, 700) AS n;
    END $$
"""
INDEXES = """
    SELECT x.indrelid::regclass::text AS on, i.relname::text AS name, indisvalid AS valid, i.relispartition AS attached
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
    WHERE indrelid IN (SELECT relid FROM pg_partition_tree('measurement')) ORDER BY 1, 2
"""
OF_PARTITION = """
    SELECT conname, conindid FROM pg_constraint
    WHERE conrelid = 'measurement_2025'::regclass AND contype IN ('u', 'f') ORDER BY 1
"""
ONE = 'sa.Index("ix_value", "value")'
UNIQUE = 'sa.Index("ux_day", "day", "station", "value", unique=True)'
EXPRESSION = 'sa.Index("ix_lower", sa.text("lower(station)"), postgresql_where=sa.text("value > 0"))'


def measurement(*more: str) -> str:
    columns = 'sa.Column("day", sa.Date), sa.Column("station", sa.Text), sa.Column("value", sa.Integer)'
    options = 'postgresql_partition_by="RANGE (day)"'
    return f'sa.Table("measurement", Base.metadata, {", ".join((columns, *more))}, {options})\n'


@pytest.fixture
def inside(render: Render, database: URL) -> Inside:
    return at_start(render, database)


def at_start(render: Render, database: URL, models: str = "") -> Inside:
    """A service whose database has a partitioned table, and partitions on two levels."""
    inside = Inside(render(), database)
    inside.begin(models or measurement())
    fetch(database, PARTITIONS)
    return inside


def names(database: URL) -> dict[str, set[str]]:
    """The names of the indexes of each table of the tree, all of them valid."""
    rows = fetch(database, INDEXES)
    assert all(row.valid for row in rows), rows
    return {table: {row.name for row in rows if row.on == table} for table in {row.on for row in rows}}


def test_indexes_of_a_partitioned_table(inside: Inside, database: URL) -> None:
    inside.write_models(measurement(ONE, UNIQUE, EXPRESSION))
    scripts = inside.autogenerate("indexes of measurements")
    assert inside.lint(scripts) == []
    inside.alembic(command.upgrade, "head")
    indexes = names(database)
    assert indexes["measurement"] == {"ix_value", "ux_day", "ix_lower"}
    assert {len(of_table) for of_table in indexes.values()} == {3}
    assert len(indexes) == 5
    inside.alembic(command.downgrade, "start")
    assert names(database) == {}
    inside.alembic(command.upgrade, "head")
    assert names(database) == indexes


def test_a_killed_build_goes_on(inside: Inside, database: URL) -> None:
    """Each state that a kill can leave: of the parent alone, of some partitions, of an invalid part."""
    inside.write_models(measurement(ONE))
    inside.autogenerate("an index of measurements")
    fetch(database, "CREATE INDEX ix_value ON ONLY measurement (value)")
    fetch(database, "CREATE INDEX measurement_2025_ix_value ON measurement_2025 (value)")
    fetch(database, "ALTER INDEX ix_value ATTACH PARTITION measurement_2025_ix_value")
    fetch(database, 'CREATE INDEX "measurement 2024_ix_value" ON ONLY archive."measurement 2024" (value)')
    fetch(database, "CREATE INDEX north_ix_value ON archive.north (value)")
    fetch(database, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'archive.north_ix_value'::regclass")
    assert [row.valid for row in fetch(database, INDEXES)] == [False, False, False, True]
    inside.alembic(command.upgrade, "head")
    assert {len(of_table) for of_table in names(database).values()} == {1}


def test_an_index_that_is_replaced_twice(render: Render, database: URL) -> None:
    """The parts keep the names under which they were built."""
    inside = at_start(render, database, measurement(ONE))
    for columns in ("'value', 'day'", "'value', 'day', 'station'"):
        inside.write_models(measurement(f'sa.Index("ix_value", {columns})'))
        inside.autogenerate(f"an index on {columns}")
        inside.alembic(command.upgrade, "head")
    inside.alembic(command.check)
    at_head = names(database)
    inside.alembic(command.downgrade, "start")
    inside.alembic(command.upgrade, "head")
    assert at_head["measurement"] == names(database)["measurement"] == {"ix_value"}


def test_a_drop_waits_for_no_longer_than_the_lock_timeout(
    inside: Inside, database: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again, and other sessions read in the meantime."""
    monkeypatch.setenv("MIGRATION_LOCK_TIMEOUT", "100ms")
    fetch(database, "CREATE INDEX ix_value ON measurement (value)")
    inside.write_models(measurement())
    inside.autogenerate("no index of measurements")
    with ThreadPoolExecutor() as threads, holding(database, "SELECT * FROM archive.north"):
        upgrade = threads.submit(inside.alembic, command.upgrade, "head")
        wait_for(database, "SELECT pid FROM pg_locks WHERE NOT granted")
        for _ in range(5):
            fetch(database, "SELECT count(*) FROM archive.north")
        assert not upgrade.done()
    upgrade.result()
    assert names(database) == {}


def test_a_partition_that_is_a_foreign_table_is_named(inside: Inside, database: URL) -> None:
    fetch(database, "CREATE FOREIGN DATA WRAPPER nowhere")
    fetch(database, "CREATE SERVER far FOREIGN DATA WRAPPER nowhere")
    bounds = "FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')"
    fetch(database, f"CREATE FOREIGN TABLE abroad PARTITION OF measurement {bounds} SERVER far")
    inside.write_models(measurement(ONE))
    inside.autogenerate("an index of measurements")
    with pytest.raises(RevisionError, match="abroad"):
        inside.alembic(command.upgrade, "head")
    assert names(database) == {}


def test_constraints_that_block_writes_are_acknowledged(render: Render, url_of_each_version: URL) -> None:
    kept = 'sa.Table("station", Base.metadata, sa.Column("name", sa.Text, primary_key=True))\n'
    constraints = (
        'sa.UniqueConstraint("day", "station", "value"), sa.ForeignKeyConstraint(["station"], ["station.name"])'
    )
    inside = at_start(render, url_of_each_version, kept + measurement())
    fetch(inside.url, "INSERT INTO station VALUES ('north'), ('south')")
    without = schema(inside.url)
    inside.write_models(kept + measurement(constraints))
    scripts = inside.autogenerate("constraints of measurements")
    fetch(inside.url, "ALTER TABLE measurement_2025 ADD CONSTRAINT own UNIQUE (day, station, value)")
    fetch(inside.url, "ALTER TABLE measurement_2025 ADD CONSTRAINT key FOREIGN KEY (station) REFERENCES station")
    before = fetch(inside.url, OF_PARTITION)
    asked = [script for script in scripts if unacknowledged(script)]
    before_18 = fetch(inside.url, "SELECT current_setting('server_version_num')::int < 180000 AS is_so")[0].is_so
    assert len(asked) == 1 + before_18
    inside.upgrade("head", str)
    inside.alembic(command.check)
    assert fetch(inside.url, OF_PARTITION) == before, "the partition's own constraints are attached"
    inside.alembic(command.downgrade, f"-{len(scripts)}", x=["yes"])
    assert schema(inside.url) == without
    inside.upgrade("head", str)
    assert inside.lint(scripts) == []
    inside.write_models(kept + measurement())
    scripts = inside.autogenerate("no constraints of measurements")
    inside.upgrade("head", str)
    inside.alembic(command.downgrade, f"-{len(scripts)}", x=["yes"])
