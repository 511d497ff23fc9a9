"""An id that the version table can't take is reported when it is written, and before an upgrade runs anything."""

from pathlib import Path

import pytest
from alembic import command
from alembic.util import CommandError
from sqlalchemy import URL, MetaData

from plain_project import PlainProject
from safe_migrations.errors import RevisionError
from support import fetch, tables

LONG = "add_the_stock_number_to_each_item"  # 33 characters
WIDEN = "op.alter_column('alembic_version', 'version_num', type_=sa.String(64))"


@pytest.fixture
def project(tmp_path: Path, database: URL) -> PlainProject:
    return PlainProject(tmp_path / "project", database)


def test_an_upgrade_is_refused_before_anything_runs(project: PlainProject) -> None:
    project.add("one")
    project.add(LONG, after="one")
    for function, target in ((command.upgrade, "head"), (command.upgrade, LONG[:8]), (command.stamp, "head")):
        with pytest.raises(RevisionError, match=f"{LONG}.*33.*32"):
            project.alembic(function, target)
    assert tables(project.url) == set()
    project.alembic(command.ensure_version)
    assert tables(project.url) == {"alembic_version"}, "Alembic creates the table, and records nothing"
    project.alembic(command.upgrade, "one")
    with pytest.raises(RevisionError, match=LONG):
        project.alembic(command.upgrade, "head")


@pytest.mark.parametrize("type_", ["varchar(33)", "text", "varchar"])
def test_the_width_of_the_column_decides(project: PlainProject, type_: str) -> None:
    """Also of another table, whose name has to be quoted."""
    project.options = {"version_table": "Version of it", "version_table_schema": "v"}
    fetch(project.url, "CREATE SCHEMA v")
    fetch(project.url, f'CREATE TABLE v."Version of it" (version_num {type_} NOT NULL)')
    project.add(LONG)
    project.alembic(command.upgrade, "head")
    assert fetch(project.url, 'SELECT version_num FROM v."Version of it"') == [(LONG,)]


def test_a_revision_may_widen_the_column(project: PlainProject) -> None:
    project.add("one", WIDEN)
    project.add(LONG, after="one")
    project.alembic(command.upgrade, "head")
    assert fetch(project.url, "SELECT version_num FROM alembic_version") == [(LONG,)]


def test_no_file_is_written(project: PlainProject) -> None:
    """By none of the commands that name a revision, unless the history has such an id."""
    ini = project.folder / "alembic.ini"
    ini.write_text(f"{ini.read_text()}revision_environment = true\n")
    project.add("one")
    project.add("two")
    project.models = MetaData()
    with pytest.raises(CommandError, match=f"{LONG}.*32"):
        project.alembic(command.revision, "text", rev_id=LONG, head="one")
    with pytest.raises(CommandError, match=LONG):
        project.alembic(command.merge, "heads", rev_id=LONG)
    project.alembic(command.upgrade, "heads")
    with pytest.raises(CommandError, match=LONG):
        project.alembic(command.revision, "text", rev_id=LONG, head="one", autogenerate=True)
    assert sorted(path.stem for path in project.versions.glob("*.py")) == ["one", "two"]
    project.alembic(command.revision, "text", rev_id=LONG[1:], head="one")
    project.add(LONG, after="two")
    project.alembic(command.merge, "heads", rev_id=f"{LONG}_2")


def test_a_number_is_no_id_but_leads_to_it(project: PlainProject) -> None:
    """The library names revisions by their numbers; Alembic takes ids only."""
    project.add("a0b1")
    (file,) = project.versions.glob("a0b1*.py")
    file.rename(project.versions / "20300101_0007_seven.py")
    project.alembic(command.upgrade, "head")
    for function in (command.upgrade, command.downgrade, command.stamp):
        with pytest.raises(CommandError, match=r"(?s)'0007'.*_seven\.py.*a0b1.*\nalembic history$"):
            project.alembic(function, "0007")
        with pytest.raises(CommandError, match=r"(?s)'0009'.*\nalembic history$") as error:
            project.alembic(function, "0009")
        assert "a0b1" not in str(error.value)
