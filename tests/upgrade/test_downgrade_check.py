"""A downgrade that can't reach its destination does nothing, and says where it would stop."""

from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import URL

from plain_project import PlainProject
from safe_migrations.errors import RevisionError
from support import fetch

TABLES = """
op.execute("CREATE TABLE parent (id int PRIMARY KEY)")
op.execute("CREATE TABLE item (id int PRIMARY KEY, name text, code text, parent int)")
"""
ROWS = "INSERT INTO item VALUES (1, NULL, 'it''s', 7), (2, 'a', 'it''s', NULL)"
REVISION = "SELECT version_num FROM alembic_version"


@pytest.fixture
def project(tmp_path: Path, database: URL) -> PlainProject:
    """A project with rows, whose second revision is to be reverted after the third one."""
    project = PlainProject(tmp_path / "project", database)
    project.add("one", TABLES, "pass")
    project.alembic(command.upgrade, "head")
    fetch(database, ROWS)
    return project


def with_revisions(project: PlainProject, *downgrades: str) -> None:
    """Revisions with these downgrades, the first of them the newest."""
    after = "one"
    for number, downgrade in enumerate(reversed(downgrades)):
        project.add(f"r{number}", "pass", downgrade, after=after)
        after = f"r{number}"
    project.alembic(command.upgrade, "head")


def execute(*statements: str) -> str:
    return "\n".join(f"op.execute({statement!r})" for statement in statements)


STOPS = {
    "null": (execute("ALTER TABLE item ALTER COLUMN name SET NOT NULL"), "item.name contains NULL"),
    "restored column": ('op.add_column("item", sa.Column("title", sa.Text(), nullable=False))', "column title"),
    "restored column, later": (
        'op.add_column("item", sa.Column("title", sa.Text()))\nop.alter_column("item", "title", nullable=False)',
        "column title",
    ),
    "check": (execute("ALTER TABLE item ADD CONSTRAINT c CHECK (code <> 'it''s')"), "the check c"),
    "validated": (
        execute(
            "ALTER TABLE item ADD CONSTRAINT c CHECK (name IS NOT NULL) NOT VALID",
            "ALTER TABLE item VALIDATE CONSTRAINT c",
        ),
        "item.name contains NULL",
    ),
    "unique": ('op.create_unique_constraint("u", "item", ["code"])', "the same code"),
    "unique index": ('op.create_index_concurrently("u", "item", ["code"], unique=True)', "the same code"),
    "foreign key": ('op.create_foreign_key("f", "item", "parent", ["parent"], ["id"])', "missing rows of parent"),
    "raises": ('"""Not reversible."""\nraise NotImplementedError("the rows are gone")', "the rows are gone"),
}


@pytest.mark.parametrize(("downgrade", "reason"), STOPS.values(), ids=STOPS)
def test_it_does_nothing_and_says_where_it_would_stop(project: PlainProject, downgrade: str, reason: str) -> None:
    index = execute("CREATE INDEX ix ON item (name)")
    with_revisions(project, index, "pass", downgrade)
    with pytest.raises(RevisionError) as caught:
        project.alembic(command.downgrade, "one")
    message = str(caught.value)
    assert all(part in message for part in ("r0.py", reason, "Nothing was changed"))
    assert message.endswith("\nalembic -x as-far-as-possible downgrade one")
    assert fetch(project.url, REVISION) == [("r2",)]

    with pytest.raises(RevisionError, match=r"r0\.py"):  # tried, and rolled back
        project.alembic(command.downgrade, "one", x="as-far-as-possible yes")
    assert fetch(project.url, REVISION) == [("r0",)]
    with pytest.raises(RevisionError) as caught:
        project.alembic(command.downgrade, "one")
    assert "as-far-as-possible" not in str(caught.value), "there is nothing before it"


GOES = {
    "filled": execute("UPDATE item SET name = ''", "ALTER TABLE item ALTER COLUMN name SET NOT NULL"),
    "with a default": 'op.add_column("item", sa.Column("title", sa.Text(), server_default="a", nullable=False))',
    "not valid": execute("ALTER TABLE item ADD CONSTRAINT c CHECK (name IS NOT NULL) NOT VALID"),
    "another column of the name": execute(
        "ALTER TABLE item DROP COLUMN code",
        "ALTER TABLE item ADD COLUMN code int",
        "CREATE UNIQUE INDEX u ON item (code)",
    ),
    "of some rows": execute("CREATE UNIQUE INDEX u ON item (code) WHERE id > 1"),
    "an expression": execute("CREATE UNIQUE INDEX u ON item ((code || id))"),
    "two columns": execute("CREATE UNIQUE INDEX u ON item (code, id)"),
    "a domain with a default": execute(
        "CREATE DOMAIN word AS text DEFAULT 'a'", "ALTER TABLE item ADD COLUMN title word NOT NULL"
    ),
    "renamed": execute("ALTER TABLE item RENAME COLUMN name TO title", "ALTER TABLE item RENAME COLUMN code TO name")
    + "\nop.alter_column('item', 'name', nullable=False)",
    "returns": "if True:\n    return\nraise NotImplementedError",
    "code of its own": "op.get_bind().exec_driver_sql(FILL)\nop.alter_column('item', 'name', nullable=False)\n".replace(
        "FILL", repr("UPDATE item SET name = ''")
    ),
}


@pytest.mark.parametrize("downgrade", GOES.values(), ids=GOES)
def test_what_works_is_not_refused(project: PlainProject, downgrade: str) -> None:
    with_revisions(project, "pass", downgrade)
    project.alembic(command.downgrade, "one", x="yes")
    assert fetch(project.url, REVISION) == [("one",)]
