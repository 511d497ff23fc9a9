"""A downgrade that can't reach its destination does nothing, and says where it would stop."""

from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import URL

from plain_project import PlainProject
from safe_migrations.errors import RevisionError
from support import execute_all, fetch

SCHEMA = """
DROP SCHEMA public CASCADE;
CREATE SCHEMA public;
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE item (id int PRIMARY KEY, name text, code text, parent int);
INSERT INTO item VALUES (1, NULL, 'it''s', 7), (2, 'a', 'it''s', NULL);
CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
"""
REVISION = "SELECT version_num FROM alembic_version"


@pytest.fixture
def project(tmp_path: Path, database: URL) -> PlainProject:
    return PlainProject(tmp_path / "project", database)


def begin(project: PlainProject, case: int, *downgrades: str) -> list[str]:
    """A database with rows, at the last of the revisions that are returned, which have these downgrades."""
    for path in project.versions.glob("*.py"):
        path.unlink()
    names = [f"case_{case}_{number}" for number in range(len(downgrades))]
    for name, after, downgrade in zip(names, [None, *names], downgrades, strict=False):
        project.add(name, "pass", downgrade, after=after)
    execute_all(project.url, f"{SCHEMA} INSERT INTO alembic_version VALUES ('{names[-1]}')")  # noqa: S608
    return names


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


def test_it_does_nothing_and_says_where_it_would_stop(project: PlainProject, subtests: pytest.Subtests) -> None:
    index = execute("CREATE INDEX ix ON item (name)")
    for case, (name, (downgrade, reason)) in enumerate(STOPS.items()):
        with subtests.test(name):
            first, stop, last = begin(project, case, "pass", downgrade, index)
            with pytest.raises(RevisionError) as caught:
                project.alembic(command.downgrade, first)
            message = str(caught.value)
            assert all(part in message for part in (f"{stop}.py", reason, "Nothing was changed"))
            assert message.endswith(f"\nalembic -x as-far-as-possible downgrade {first}")
            assert fetch(project.url, REVISION) == [(last,)]

            with pytest.raises(RevisionError, match=rf"{stop}\.py"):  # tried, and rolled back
                project.alembic(command.downgrade, first, x="as-far-as-possible yes")
            assert fetch(project.url, REVISION) == [(stop,)]
    with pytest.raises(RevisionError) as caught:
        project.alembic(command.downgrade, first)
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


def test_what_works_is_not_refused(project: PlainProject, subtests: pytest.Subtests) -> None:
    for case, (name, downgrade) in enumerate(GOES.items()):
        with subtests.test(name):
            first, _ = begin(project, case, "pass", downgrade)
            project.alembic(command.downgrade, first, x="yes")
            assert fetch(project.url, REVISION) == [(first,)]
