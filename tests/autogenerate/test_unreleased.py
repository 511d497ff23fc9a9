"""Tables that no release has: their changes are written at once; all others, and those that git does not know, are not."""

import subprocess
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import URL

from alembic_in_process import Inside, schema
from safe_migrations.trace.phase_check import check_phases
from safe_migrations.upgrade.phases import phase_of
from safe_migrations.upgrade.project import load_project
from support import Render, fetch

IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@b")
OLD = """

class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str]
    size: Mapped[int] = mapped_column(index=True)
    gone: Mapped[str]
"""
NEW = """

class Box(Base):
    __tablename__ = "box"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str | None] = mapped_column(unique=True)
    size: Mapped[int] = mapped_column(BigInteger)
    sku = mapped_column(sa.CHAR(8), nullable=False, index=True)
    box_id: Mapped[int] = mapped_column(BigInteger, sa.ForeignKey("box.id"))
    __table_args__ = (CheckConstraint("size > 0", name="size"),)
"""


def git(inside: Inside, *arguments: str) -> None:
    subprocess.run(["git", *IDENTITY, *arguments], cwd=inside.service.folder, check=True, capture_output=True)


def commit(inside: Inside) -> None:
    git(inside, "add", "--all")
    git(inside, "commit", "--message", "work")


@pytest.fixture
def inside(render: Render, database: URL) -> Inside:
    """A service in git, whose table is in a revision that is not committed."""
    inside = Inside(render(), database)
    git(inside, "init", "--initial-branch=main")
    inside.write_models(OLD)
    inside.autogenerate("create items")
    inside.alembic(command.upgrade, "head")
    inside.write_models(NEW)
    return inside


def phases(inside: Inside) -> list[str | None]:
    return [phase_of(script) for script in inside.autogenerate("change items")]


def test_a_table_that_was_never_committed(inside: Inside, capsys: pytest.CaptureFixture[str]) -> None:
    before = schema(inside.url)
    capsys.readouterr()
    scripts = inside.autogenerate("change items")
    printed = capsys.readouterr().out
    assert [phase_of(script) for script in scripts] == ["expand", "expand"]
    assert not (inside.service.folder / "alembic" / "backfills").exists()
    print(printed); print(Path(scripts[1].path).read_text())
    assert inside.lint(inside.history()) == []
    for _ in range(2):
        inside.alembic(command.upgrade, "head")
        inside.alembic(command.check)
        inside.alembic(command.downgrade, scripts[0].down_revision, x=["yes"])
        assert schema(inside.url) == before
