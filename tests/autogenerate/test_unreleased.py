"""Tables that no release has: their changes are written at once. Others, and what git does not know, have phases."""

import subprocess
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import URL

from alembic_in_process import Inside, schema
from safe_migrations.history.unreleased import unreleased_tables
from safe_migrations.upgrade.phases import phase_of
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
CHANGED = """

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


@pytest.fixture
def inside(render: Render, database: URL) -> Inside:
    """A service in git, whose table is in a revision that is not committed."""
    inside = Inside(render(), database)
    git(inside, "init", "--initial-branch=main")
    inside.begin(OLD)
    path = Path(inside.history()[0].path)
    text = path.read_text().replace("    pass", '    op.create_table("item")', 1)
    path.write_text(text.replace("\n\n", "\n\nfrom safe_migrations.operations import op\n\n", 1))
    return inside


def test_all_changes_are_one_step_of_one_file(inside: Inside, capsys: pytest.CaptureFixture[str]) -> None:
    before = schema(inside.url)
    inside.write_models(CHANGED)
    capsys.readouterr()
    scripts = inside.autogenerate("change items")
    assert "item: neither the main branch nor a tag" in capsys.readouterr().out
    assert [phase_of(script) for script in scripts] == ["expand", "expand"], "the new table, and the changed one"
    assert "op.step" not in Path(scripts[1].path).read_text()
    assert not (inside.service.folder / "alembic" / "backfills").exists()
    assert inside.lint(scripts) == []
    inside.alembic(command.upgrade, "head")
    inside.alembic(command.check)
    inside.alembic(command.downgrade, "start", x=["yes"])
    assert schema(inside.url) == before
    inside.alembic(command.upgrade, "head")


def test_what_is_published(inside: Inside) -> None:
    assert unreleased_tables(inside.scripts) == {"item"}, "nothing is committed"
    git(inside, "commit", "--allow-empty", "--message", "before")
    git(inside, "checkout", "-b", "items")
    git(inside, "add", "--all")
    git(inside, "commit", "--message", "create items")
    assert unreleased_tables(inside.scripts) == {"item"}, "on a branch"
    git(inside, "tag", "1.0.0")
    assert unreleased_tables(inside.scripts) == set(), "in a release"
    git(inside, "tag", "--delete", "1.0.0")
    git(inside, "branch", "--force", "main", "items")
    git(inside, "mv", *(str(Path(script.path)) for script in inside.history()), str(inside.service.versions / "new.py"))
    assert unreleased_tables(inside.scripts) == set(), "on the main branch, under another name"
    git(inside, "branch", "--delete", "--force", "main")
    assert unreleased_tables(inside.scripts) is None, "no branch is known to be the main branch"


def test_a_table_is_in_use_after_a_deployment(inside: Inside) -> None:
    inside.alembic(command.revision, "a contract revision of another table")
    path = Path(inside.history()[-1].path)
    path.write_text(path.read_text().replace('"expand"', '"contract"', 1))
    assert unreleased_tables(inside.scripts) == set()


def test_rows_need_phases_and_lint_finds_what_was_released_since(inside: Inside) -> None:
    inside.write_models(OLD + "    sku = mapped_column(sa.Text, nullable=False)\n")
    fetch(inside.url, "INSERT INTO item (name, size, gone) VALUES ('a', 1, '')")
    scripts = inside.autogenerate("add a sku")
    assert [phase_of(script) for script in scripts] == ["expand", "contract"]
    for script in scripts:
        Path(script.path).unlink()

    fetch(inside.url, "DELETE FROM item")
    (script,) = inside.autogenerate("add a sku")
    assert inside.lint([script]) == []
    git(inside, "add", inside.history()[0].path)
    git(inside, "commit", "--message", "create items")
    assert [finding.rule.name for finding in inside.lint([script])] == ["released-table"]
