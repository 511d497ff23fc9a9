"""What revisions wait for is found before the first of them runs, and shown by `state` all at once."""

from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import URL

from adopt_comparison import load
from plain_project import PlainProject
from safe_migrations.errors import BackfillError, NotConfirmedError
from safe_migrations.operate.deploy import deploy
from safe_migrations.operate.status import Report, read_report
from support import fetch

BACKFILL = """
import sqlalchemy as sa
from safe_migrations.backfills import Backfill

item = sa.table("item", sa.column("id"), sa.column({column!r}))
backfill = Backfill(table=item, key=("id",), where=item.c.{column}.is_(None), values={{{column!r}: {value}}})
"""
CONTRACT = 'phase = "contract"'
# As the revision makes it, with two rows.
AT_ITEM = """
CREATE TABLE item (id int PRIMARY KEY, sku text, code text);
INSERT INTO item VALUES (1), (2);
CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
INSERT INTO alembic_version VALUES ('item');
"""
NAMES = "SELECT attname FROM pg_attribute WHERE attrelid = 'item'::regclass AND attnum > 0 AND NOT attisdropped"


class Project(PlainProject):
    """A project with a table of two rows, whose columns sku and code are empty."""

    def __init__(self, folder: Path, url: URL) -> None:
        super().__init__(folder, url)
        self.last: str | None = None
        self.revision("item", "pass")
        load(url, AT_ITEM)

    def revision(self, name: str, upgrade: str, *declarations: str) -> Path:
        """Add a revision."""
        path = self.add(name, upgrade, after=self.last)
        path.write_text(path.read_text().replace("\nrevision =", "\n".join(["", *declarations, "revision ="]), 1))
        self.last = name
        return path

    def column(self, name: str, *declarations: str) -> Path:
        """Add a revision that adds a column."""
        return self.revision(name, f'op.add_column("item", sa.Column("{name}", sa.Text()))', *declarations)

    def backfill(self, column: str, value: str = "'a'") -> None:
        """Add a backfill."""
        folder = self.folder / "migrations" / "backfills"
        folder.mkdir(exist_ok=True)
        folder.joinpath(f"item_{column}.py").write_text(BACKFILL.format(column=column, value=value))

    @property
    def report(self) -> Report:
        """The state of the database."""
        return read_report(self.project)

    @property
    def columns(self) -> list[str]:
        """What the revisions have done."""
        return [name for (name,) in fetch(self.url, NAMES)]


@pytest.fixture
def project(tmp_path: Path, database: URL) -> Project:
    return Project(tmp_path / "project", database)


def test_one_message_names_all_that_is_missing_and_nothing_runs(project: Project) -> None:
    project.backfill("sku")
    project.backfill("code")
    project.column("one")
    for name, danger in (("two", "rows are lost"), ("three", "a lock")):
        project.column(name, f'# acknowledged = "{danger}"')
    project.column("four", CONTRACT, 'requires_backfill = ("item_sku", "item_code")')
    with pytest.raises(NotConfirmedError) as caught:
        project.alembic(command.upgrade, "head")
    message = str(caught.value)
    named = ("two.py:6: ", "rows are lost", "three.py:6: ", "a lock", "four.py needs the backfill item_sku, ")
    assert all(part in message for part in named)
    assert message.endswith("\nsafe-migrations backfill item_sku\nsafe-migrations backfill item_code")
    assert "one.py" not in message
    assert project.columns == ["id", "sku", "code"]

    report = project.report
    assert [line.partition(":")[2] for line in report.unacknowledged] == ["6: rows are lost", "6: a lock"]
    assert [backfill["required_by"] for backfill in report.backfills] == ["four.py", "four.py"]


@pytest.mark.parametrize("run", ["upgrade", "deploy"])
def test_a_later_backfill_stops_what_comes_before_it(project: Project, run: str) -> None:
    project.backfill("sku")
    project.column("one", CONTRACT)
    project.column("two", CONTRACT, 'requires_backfill = "item_sku"')
    with pytest.raises(BackfillError, match=r"two\.py needs the backfill item_sku"):
        if run == "upgrade":
            project.alembic(command.upgrade, "head")
        else:
            deploy(project.project, None, print, contract=True)
    assert project.columns == ["id", "sku", "code"]
    fetch(project.url, "UPDATE item SET sku = 'a'")
    project.alembic(command.upgrade, "head")
    assert project.columns == ["id", "sku", "code", "one", "two"]


@pytest.mark.parametrize(
    ("column", "value"),
    [("one", "'a'"), ("sku", "sa.literal_column('one')"), ("sku", "sa.func.as_code(item.c.id)")],
    ids=["of a new column", "reads a new column", "calls a new function"],
)
def test_what_only_an_earlier_revision_makes_possible_stops_at_its_own_revision(
    project: Project, column: str, value: str
) -> None:
    project.backfill(column, value)
    project.column("one")
    function = "CREATE FUNCTION as_code(int) RETURNS text LANGUAGE sql AS 'SELECT 1::text'"
    project.revision("function", f'op.execute("{function}")')
    project.column("two", CONTRACT, f'requires_backfill = "item_{column}"')
    with pytest.raises(BackfillError, match=r"two\.py needs the backfill"):
        project.alembic(command.upgrade, "head")
    assert project.columns == ["id", "sku", "code", "one"]


def test_a_backfill_that_no_revision_requires_is_not_forgotten(project: Project) -> None:
    project.backfill("sku")
    project.backfill("missing")  # its column was dropped, or is not there yet
    messages: list[str] = []
    assert deploy(project.project, None, messages.append).exit_status == 0
    for text in (project.report.as_text(), messages[0]):
        assert "item_sku, required by no revision" in text
        assert text.endswith("\nsafe-migrations backfill item_sku")
    assert "missing" not in project.report.as_text()

    fetch(project.url, "UPDATE item SET sku = 'a'")
    assert project.report.next == "There is nothing to do."


def test_a_backfill_that_can_t_be_judged_is_named(project: Project) -> None:
    project.backfill("sku")
    project.folder.joinpath("migrations", "backfills", "broken.py").write_text("backfill = 7")
    problems = {backfill["name"]: backfill["problem"] for backfill in project.report.backfills}
    assert problems["item_sku"] is None
    assert "broken.py" in str(problems["broken"])


def test_a_backfill_of_an_applied_revision_is_over(project: Project) -> None:
    """Rows may be NULL again, if a later revision allows that."""
    project.backfill("sku")
    fetch(project.url, "UPDATE item SET sku = 'a'")
    project.column("one", CONTRACT, 'requires_backfill = "item_sku"')
    project.alembic(command.upgrade, "head")
    fetch(project.url, "UPDATE item SET sku = NULL")
    assert project.report.backfills == ()
