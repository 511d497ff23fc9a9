"""Steps of a revision commit one after the other; after a failure, the next run goes on at the one that is not done."""

import io
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import URL

from plain_project import PlainProject
from safe_migrations.errors import RevisionError
from support import fetch, on

RECORDS = "SELECT revision, direction, name FROM safe_migrations.revision_step ORDER BY completed_at"
COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = 'item'::regclass AND attnum > 0 AND NOT attisdropped"
UPGRADE = """
    if op.step("columns"):
        op.add_column("item", sa.Column("sku", sa.String(20)))

    if op.step("index"):
        op.create_index_concurrently("ix_item_sku", "item", ["sku"])

    if op.step("name"):
        op.add_column("item", sa.Column("name", sa.{type}()))
"""
DOWNGRADE = """
    if op.step("name"):
        op.drop_column("item", "name")

    if op.step("index"):
        op.drop_index_concurrently("ix_item_sku", "item")

    if op.step("columns"):
        op.drop_column("item", "sku")
"""
RIGHT, WRONG = UPGRADE.format(type="Text"), UPGRADE.format(type="TextOfNoKind")


@pytest.fixture
def project(tmp_path: Path, database: URL) -> PlainProject:
    project = PlainProject(tmp_path / "project", database)
    project.add("item")
    project.alembic(command.upgrade, "head")
    return project


def recorded(project: PlainProject) -> list[tuple[str, ...]]:
    return [tuple(row) for row in fetch(project.url, RECORDS)]


def columns(project: PlainProject) -> list[str]:
    return [name for (name,) in fetch(project.url, COLUMNS)]


def test_a_run_leaves_no_record(project: PlainProject) -> None:
    project.add("sku", RIGHT, DOWNGRADE, after="item")
    project.alembic(command.upgrade, "head")
    assert columns(project) == ["id", "sku", "name"]
    assert recorded(project) == []
    project.alembic(command.downgrade, "-1")
    assert columns(project) == ["id"]
    assert recorded(project) == []
    project.alembic(command.upgrade, "head")


def test_after_a_failure_the_next_run_goes_on_at_the_step(project: PlainProject) -> None:
    project.add("sku", WRONG, DOWNGRADE, after="item")
    for _ in range(2):
        with pytest.raises(RevisionError, match="TextOfNoKind"):
            project.alembic(command.upgrade, "head")
        assert columns(project) == ["id", "sku"]
        assert recorded(project) == [("sku", "upgrade", "columns"), ("sku", "upgrade", "index")]
    project.add("sku", RIGHT, DOWNGRADE, after="item")
    project.alembic(command.upgrade, "head")
    assert columns(project) == ["id", "sku", "name"]
    assert recorded(project) == []


def test_one_step_needs_no_table(project: PlainProject) -> None:
    project.add("sku", 'if op.step("columns"):\n    op.add_column("item", sa.Column("sku", sa.Text()))', after="item")
    project.alembic(command.upgrade, "head")
    assert columns(project) == ["id", "sku"]
    assert fetch(project.url, "SELECT to_regnamespace('safe_migrations')") == [(None,)]


def test_a_script_commits_each_step(project: PlainProject) -> None:
    project.add("sku", RIGHT, DOWNGRADE, after="item")
    sql = io.StringIO()
    config = project.config()
    config.output_buffer = sql
    command.upgrade(config, "item:sku", sql=True)
    assert "revision_step" not in sql.getvalue()


def test_an_injected_connection(project: PlainProject) -> None:
    project.add("sku", RIGHT, DOWNGRADE, after="item")

    def upgrade(connection: object) -> None:
        config = project.config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    on(project.url, upgrade)
    assert columns(project) == ["id", "sku", "name"]
    assert recorded(project) == []
