"""Mistakes in the models end with one sentence, and only where the models are needed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.util import CommandError
from sqlalchemy import URL, MetaData
from sqlalchemy.dialects import mysql

from plain_project import PlainProject
from safe_migrations.autogenerate.preview import read_preview
from safe_migrations.errors import ConfigurationError, ModelError, RefusedError
from safe_migrations.operate.status import read_report
from support import fetch, tables

CONVENTION = {"ck": "ck_%(table_name)s_%(constraint_name)s"}


def models(*items: sa.schema.SchemaItem, name: str = "item") -> MetaData:
    metadata = MetaData(naming_convention=CONVENTION)
    sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True), *items)
    return metadata


def two_indexes() -> MetaData:
    metadata = models(sa.Index("ix_same", "id"))
    sa.Table("box", metadata, sa.Column("id", sa.Integer), sa.UniqueConstraint("id", name="ix_same"))
    return metadata


MISTAKES: dict[str, Callable[[], object]] = {
    r"column item\.box_id.*'box'": lambda: models(sa.Column("box_id", sa.ForeignKey("box.id"))),
    r"column item\.x.*nope": lambda: models(sa.Column("x", sa.Integer, sa.ForeignKey("item.nope"))),
    r"column item\.kind.*type": lambda: models(sa.Column("kind")),
    r"column item\.text.*MEDIUMTEXT": lambda: models(sa.Column("text", mysql.MEDIUMTEXT())),
    r"enum of item\.state": lambda: models(sa.Column("state", sa.Enum("a", "b"))),
    r"ix_same.*item and box": two_indexes,
    r"uq_it.*table item\)": lambda: models(sa.UniqueConstraint("id", name="uq_it"), sa.Index("uq_it", "id")),
    "Two MetaData .*item": lambda: [models(), models()],
}


@pytest.fixture
def project(tmp_path: Path, database: URL) -> PlainProject:
    """A project at head."""
    project = PlainProject(tmp_path / "project", database)
    project.begin("one")
    return project


def test_what_the_comparison_needs(project: PlainProject) -> None:
    """An upgrade does not: it runs."""
    for named, mistaken in MISTAKES.items():
        project.models = mistaken()
        with pytest.raises(ModelError, match=named):
            project.alembic(command.check)
    for read in (read_report, read_preview):
        with pytest.raises(ModelError):
            read(project.project)
    before = set(project.versions.iterdir())
    with pytest.raises(ModelError):
        project.alembic(command.revision, "text", autogenerate=True)
    assert set(project.versions.iterdir()) == before
    project.add("two", after="one")
    project.alembic(command.upgrade, "head")
    assert "two" in tables(project.url)


def test_a_comparison_advises_what_the_state_allows(project: PlainProject, database: URL) -> None:
    """Not the upgrade that a database needs which is merely behind: it would be refused."""
    project.models = models()
    fetch(database, "DELETE FROM alembic_version")
    fetch(database, "CREATE TABLE item (id int)")
    with pytest.raises(RefusedError, match=r"\nsafe-migrations adopt$") as untracked:
        project.alembic(command.check)
    assert untracked.value.exit_status == 5
    with pytest.raises(RefusedError, match=r"\nsafe-migrations adopt$"):
        project.alembic(command.revision, "add a note", autogenerate=True)
    fetch(database, "DROP TABLE item")
    with pytest.raises(RefusedError, match=r"\nalembic upgrade head$"):
        project.alembic(command.check)


def test_what_autogenerate_leaves_out_is_not_checked(project: PlainProject) -> None:
    project.models = models(sa.Column("kind"))
    project.options = {"include_object": lambda _item, _name, kind, *_: kind != "table"}
    project.alembic(command.check)


def test_what_sqlalchemy_refuses_when_the_models_are_imported(project: PlainProject) -> None:
    """Every command needs the naming convention of the models."""

    def unnamed() -> MetaData:
        return models(sa.CheckConstraint("id > 0"))

    def twice() -> MetaData:
        metadata = models()
        sa.Table("item", metadata, sa.Column("id", sa.Integer))
        return metadata

    def no_token() -> MetaData:
        metadata = MetaData(naming_convention={"uq": "uq_%(nope)s"})
        sa.Table("item", metadata, sa.Column("id", sa.Integer), sa.UniqueConstraint("id"))
        return metadata

    project.add("two", after="one")
    for function, named in (unnamed, "table item.*name"), (twice, "'item'.*already"), (no_token, "table item.*nope"):
        project.models = function
        with pytest.raises(ModelError, match=rf"test_models\.py:\d+.*{named}"):
            project.alembic(command.upgrade, "head")
        with pytest.raises(ModelError, match=named):
            _ = project.project
    assert tables(project.url) == {"alembic_version"}
    project.models = lambda: [models(), models(name="box")]
    project.alembic(command.upgrade, "head")
    with pytest.raises(CommandError, match="box"):
        project.alembic(command.check)


def test_an_environment_that_imports_the_models_itself(project: PlainProject) -> None:
    """The commands of the library explain its mistakes, too; an error of the project's own stays as it is."""
    env = project.folder / "migrations" / "env.py"
    env.write_text("import sqlalchemy as sa\nsa.Table('item', sa.MetaData(), sa.Column('a'), sa.Column(5, 5, 5))\n")
    with pytest.raises(ModelError, match=r"env\.py:2"):
        _ = project.project
    env.with_name("conflict.py").write_text("import sqlalchemy\n<<<<<<< HEAD\n")
    env.write_text("import runpy\nrunpy.run_path(f'{__file__.removesuffix(\"env.py\")}conflict.py')\n")
    with pytest.raises(ModelError, match=r"conflict\.py:2.*<<<<<<< HEAD"):
        _ = project.project
    env.write_text("1 / 0")
    with pytest.raises(ZeroDivisionError):
        _ = project.project


@pytest.mark.parametrize("metadata", [object(), type("Base", (), {}), lambda: 5, [MetaData(), None]])
def test_what_is_no_metadata(project: PlainProject, metadata: object) -> None:
    project.models = metadata
    with pytest.raises(ConfigurationError, match=r"target_metadata.*env\.py"):
        read_report(project.project)
