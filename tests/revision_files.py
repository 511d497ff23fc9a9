"""Revision files of tests of lint, and the history that they are in."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import TypeVar

from alembic.script import ScriptDirectory

from safe_migrations.lint import check as lint
from safe_migrations.lint.findings import Finding

POSTGRES_VERSION = 15
Name = TypeVar("Name")

FILE = '''"""{message}

Revision ID: {{revision}}
"""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from safe_migrations.operations import op

revision = "{{revision}}"
down_revision = {{down}}
branch_labels = None
depends_on = None
phase = "{phase}"
{acknowledged}

ITEM = sa.table("item", sa.column("id", sa.Integer()), sa.column("sku", sa.Text()))
SQL = "SELECT 1"
TABLES = ("item", "box")


def change() -> None:
    op.execute(sa.delete(ITEM).where(ITEM.c.id == 3))


def upgrade() -> None:
{upgrade}


def downgrade() -> None:
{downgrade}
'''


def written(
    upgrade: str,
    downgrade: str = "op.drop_column('item', 'a')",
    *,
    phase: str = "contract",
    message: str = "add the stock number to items",
    acknowledged: str | None = None,
) -> str:
    """A revision file, without its ids."""
    text = FILE.format(
        message=message,
        phase=phase,
        acknowledged='acknowledged = "what is lost or locked"' if acknowledged is not None else "",
        upgrade=indent(upgrade or "pass", "    "),
        downgrade=indent(downgrade, "    "),
    )
    return text


@dataclass
class Versions:
    """A history in a folder, with a first revision that creates tables and a type."""

    folder: Path

    def __post_init__(self) -> None:
        (self.folder / "versions").mkdir(exist_ok=True)
        first = ["op.create_enum('used', ['good'])"]
        first += [f"op.create_table('{name}', sa.Column('id', sa.BigInteger()))" for name in ("item", "box", "shop")]
        self.add("0001", written("\n".join(first), "op.drop_enum('used')", message="baseline"))

    def add(self, revision: str, text: str) -> Path:
        """Write a revision, the newest: 0002 follows 0001."""
        path = self.path(revision)
        down = repr(f"{int(revision) - 1:04d}") if revision != "0001" else None
        path.write_text(text.replace("{revision}", revision).replace("{down}", str(down)))
        shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)  # of a text of this length and this second
        self.folder.joinpath("versions", "HEAD").write_text(f"{revision}\n")
        return path

    def path(self, revision: str) -> Path:
        """The file of a revision."""
        return self.folder / "versions" / f"{revision}.py"

    def line(self, revision: str, text: str) -> int:
        """The first line of a revision that begins so."""
        lines = self.path(revision).read_text().splitlines()
        return next(number for number, line in enumerate(lines, 1) if line.startswith(text))

    @property
    def script_directory(self) -> ScriptDirectory:
        """The files as they are now."""
        return ScriptDirectory(str(self.folder))

    def lint(self, range_: str | None = None) -> list[Finding]:
        """What is found in a range."""
        scripts = lint.find_scripts(self.script_directory, range_)
        return lint.lint(self.script_directory, scripts, POSTGRES_VERSION)

    def found(self, range_: str | None = None) -> list[tuple[int, str]]:
        """The lines of what is found, with the names of the rules."""
        return [(finding.line, finding.rule.name) for finding in self.lint(range_)]


def found_in(folder: Path, texts: Mapping[Name, str]) -> dict[Name, list[tuple[int, str]]]:
    """What one run of lint finds in each of these texts, which are the revisions of one history, from 0002 on."""
    versions = Versions(folder)
    names = {versions.add(f"{number:04d}", text): name for number, (name, text) in enumerate(texts.items(), 2)}
    findings: dict[Name, list[tuple[int, str]]] = {name: [] for name in texts}
    for finding in versions.lint("0001:"):
        findings[names[finding.path]].append((finding.line, finding.rule.name))
    return findings


def names_in(folder: Path, texts: Mapping[Name, str]) -> dict[Name, list[str]]:
    """As `found_in`, the names of the rules alone."""
    return {name: [rule for _, rule in findings] for name, findings in found_in(folder, texts).items()}
