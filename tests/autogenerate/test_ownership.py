"""What exists in the database and is not the models' is never dropped, and named where autogenerate reports."""

from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import URL

from alembic_in_process import Inside
from support import Render, fetch

ITEM = 'sa.Table("item", Base.metadata, sa.Column("id", sa.BigInteger, primary_key=True), sa.Column("name", sa.Text))\n'
NOT_OWNED = (
    "CREATE TABLE item_child (note text) INHERITS (item)",
    "CREATE TABLE django_migrations (id int)",
    'CREATE TABLE "SequelizeMeta" (name text)',
    "CREATE TABLE schema_migrations (version text)",
    "CREATE TABLE versions_of_billing (version_num varchar(32) PRIMARY KEY)",
    "CREATE TABLE of_extension (id int)",
    "CREATE EXTENSION citext",
    "ALTER EXTENSION citext ADD TABLE of_extension",
    "CREATE SCHEMA elsewhere",
    "CREATE TABLE elsewhere.customer (id int)",
)


def test_what_others_own(render: Render, database: URL, capsys: pytest.CaptureFixture[str]) -> None:
    inside = Inside(render(), database)
    inside.begin(ITEM)
    for statement in NOT_OWNED:
        fetch(database, statement)
    capsys.readouterr()
    assert inside.autogenerate("nothing of ours") == []
    written = capsys.readouterr().out
    for name in ("item_child", "django_migrations", "SequelizeMeta", "versions_of_billing", "of_extension", "citext"):
        assert name in written
    assert "customer" not in written
    assert "alembic_version" not in written
    inside.alembic(command.check)
    assert "item_child" not in capsys.readouterr().out

    # What the models declare is theirs, and what they do not is a wanted drop.
    fetch(database, "CREATE TABLE forgotten (id int)")
    inside.write_models(
        ITEM + 'sa.Table("django_migrations", Base.metadata, sa.Column("id", sa.Integer), sa.Column("a", sa.Text))'
    )
    scripts = inside.autogenerate("one of them is ours")
    assert [script.doc for script in scripts] == ["one of them is ours", "one of them is ours (contract)"]
    names = zip(scripts, ("django_migrations", "forgotten"), strict=True)
    assert all(name in Path(script.path).read_text() for script, name in names)


def test_a_partition_that_the_models_declare(render: Render, database: URL) -> None:
    """Its columns and indexes of the parent are not dropped, because PostgreSQL would refuse that."""
    columns = 'sa.Column("day", sa.Date, index=True), sa.Column("value", sa.Integer)'
    parent = f'sa.Table("measurement", Base.metadata, {columns}, postgresql_partition_by="RANGE (day)")\n'
    inside = Inside(render(), database)
    inside.begin(parent)
    bounds = "FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')"
    fetch(database, f"CREATE TABLE measurement_2025 PARTITION OF measurement {bounds}")
    inside.write_models(
        parent + 'sa.Table("measurement_2025", Base.metadata, sa.Column("value", sa.Integer, index=True))\n'
    )
    (script,) = inside.autogenerate("an index of one partition")
    assert "drop" not in script.doc
    inside.alembic(command.upgrade, "head")
    inside.alembic(command.check)
