"""The preview is a numbered tree by phase, with the lock of each revision, and writes no file."""

import re
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy import URL

from plain_project import PlainProject
from safe_migrations.autogenerate.preview import read_preview
from support import fetch


@pytest.fixture
def project(tmp_path: Path, database: URL) -> PlainProject:
    project = PlainProject(tmp_path / "project", database)
    project.add(
        "item",
        """
        op.create_table(
            "item",
            sa.Column("id", sa.Integer(), primary_key=True),
            sa.Column("note", sa.Text()),
            sa.Column("fax", sa.Date()),
        )
        """,
    )
    project.alembic(command.upgrade, "head")
    return project


def test_tree_by_phase(project: PlainProject) -> None:
    metadata = sa.MetaData()
    project.models = metadata
    sa.Table(
        "item",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("note", sa.Text, index=True),
        sa.Column("sku", sa.Text, nullable=False),
    )
    plan = read_preview(project.project)
    text = plan.as_text()
    lines = text.splitlines()
    headings = [line.partition(":")[0] for line in lines if not line.startswith(("├", "└", "│", " "))]
    assert headings == ["expand", "deploy", "backfill", "contract"]
    numbers = [int(number) for number in re.findall(r"^[├└]─ (\d+)\. ", text, re.MULTILINE)]
    assert numbers == list(range(1, len(plan.revisions) + 1))
    assert re.findall(r"^[ │] +(\d+\.\d+) ", text, re.MULTILINE) == ["1.1", "1.2", "2.1", "2.2", "2.3", "2.4"]
    assert "└─ safe-migrations backfill item_sku" in lines
    locks = {str(lock) for revision in plan.revisions for step in revision.steps for lock in step.locks}
    assert {"ACCESS EXCLUSIVE on item", "SHARE UPDATE EXCLUSIVE on item, reads all rows"} <= locks
    assert all(lock in text for lock in locks)
    (enforced,) = (step for revision in plan.revisions for step in revision.steps if "SET NOT NULL" in step.sql)
    assert [lock.work for lock in enforced.locks if lock.mode == "ACCESS EXCLUSIVE"] == [""]
    assert "to acknowledge: " in text
    assert all(len(line) <= 100 for line in lines)
    assert "ALTER TABLE" not in text
    assert len(list(project.versions.glob("*.py"))) == 1


def test_one_phase_needs_no_deployment(project: PlainProject) -> None:
    metadata = sa.MetaData()
    project.models = metadata
    sa.Table(
        "item",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("note", sa.Text, index=True),
        sa.Column("fax", sa.Date),
    )
    text = read_preview(project.project).as_text()
    assert text.startswith("expand: ")
    assert "deploy" not in text.replace("is deployed", "")


def test_locks_without_a_rewrite_that_autogenerate_rules_out(project: PlainProject, database: URL) -> None:
    """Each table is named, also that of DROP INDEX, and once for each lock."""
    fetch(database, "ALTER TABLE item ADD code varchar(10)")
    fetch(database, "CREATE INDEX ix_item_code ON item (code)")
    metadata = sa.MetaData()
    project.models = metadata
    sa.Table(
        "item",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("note", sa.Text),
        sa.Column("fax", sa.Date),
        sa.Column("code", sa.String(20)),
        sa.Column("kind", sa.Enum("a", "b", name="item_kind")),
    )
    expand, contract = read_preview(project.project).revisions
    assert [str(lock) for step in expand.steps for lock in step.locks] == ["ACCESS EXCLUSIVE on item"]
    assert [str(lock) for step in contract.steps for lock in step.locks] == ["SHARE UPDATE EXCLUSIVE on item"]
