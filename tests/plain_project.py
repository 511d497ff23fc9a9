"""A plain Alembic project whose commands run in the tests' own process."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from sqlalchemy import URL

from safe_migrations.service import Service
from safe_migrations.upgrade.project import Project, load_project
from support import execute_all

_ENVIRONMENT = """
from alembic import context
from safe_migrations import explain_model_errors, run_env

attributes = context.config.attributes
with explain_model_errors():
    models = attributes.get("models")
    if type(models) is type(lambda: 0):
        models = models()
run_env(target_metadata=models, database_url=attributes.get("url"), **attributes.get("options", {}))
"""
_REVISION = '''"""{message}"""

import sqlalchemy as sa
from safe_migrations.operations import op

revision = {revision!r}
down_revision = {after!r}
branch_labels = {labels!r}
depends_on = {needs!r}


def upgrade() -> None:
{upgrade}


def downgrade() -> None:
{downgrade}
'''
Name = str | tuple[str, ...] | None


class PlainProject:
    """A project without models, or with those of an attribute.

    Attributes:
        folder: where it is.
        url: of its database.
        models: the `target_metadata`, or a function that returns it.
        options: what `env.py` gives to `run_env` besides.
    """

    def __init__(self, folder: Path, url: URL) -> None:
        """Make a project without a revision."""
        self.folder = folder
        self.url = url
        self.models: Any = None
        self.options: dict[str, Any] = {}
        self.versions = folder / "migrations" / "versions"
        self.versions.mkdir(parents=True)
        folder.joinpath("migrations", "env.py").write_text(_ENVIRONMENT)
        template = Path(command.__file__).parent / "templates" / "generic" / "script.py.mako"
        folder.joinpath("migrations", "script.py.mako").write_text(template.read_text())
        folder.joinpath("alembic.ini").write_text("[alembic]\nscript_location = %(here)s/migrations\n")

    def begin(self, revision: str, statements: str = "") -> None:
        """Write a first revision, and bring an empty database there by SQL: faster than an upgrade."""
        self.add(revision, "pass")
        recorded = "CREATE TABLE alembic_version (version_num varchar(32) NOT NULL PRIMARY KEY)"
        execute_all(self.url, f"{recorded}; INSERT INTO alembic_version VALUES ('{revision}'); {statements}")  # noqa: S608

    def add(
        self,
        revision: str,
        upgrade: str = "",
        downgrade: str = "pass",
        *,
        after: Name = None,
        labels: Name = None,
        needs: Name = None,
    ) -> Path:
        """Write a revision file; by default it creates a table of the same name."""
        if not upgrade:
            upgrade, downgrade = (
                f"op.create_table({revision!r}, sa.Column('id', sa.Integer()))",
                f"op.drop_table({revision!r})",
            )
        path = self.versions / f"{revision}.py"
        path.write_text(
            _REVISION.format(
                message=f"create the table {revision}",
                revision=revision,
                after=after,
                labels=labels,
                needs=needs,
                upgrade=indent(dedent(upgrade).strip(), "    "),
                downgrade=indent(dedent(downgrade).strip(), "    "),
            )
        )
        return path

    def alembic(self, function: Callable[..., object], *arguments: Any, x: str = "", **options: Any) -> Any:
        """Call an Alembic command: `project.alembic(command.upgrade, "heads")`."""
        return function(self.config(x), *arguments, **options)

    def config(self, x: str = "", **attributes: Any) -> Config:
        """Alembic's configuration, with these attributes."""
        return Config(
            self.folder / "alembic.ini",
            cmd_opts=Namespace(x=x.split()) if x else None,
            attributes={"url": self.url, "models": self.models, "options": self.options, **attributes},
        )

    @property
    def project(self) -> Project:
        """The project, as the library's commands take it."""
        return load_project(self.config())

    @property
    def service(self) -> Service:
        """The service, as alembic.ini describes it."""
        return Service.read(self.folder / "alembic.ini")

    @property
    def script(self) -> ScriptDirectory:
        """The files, as Alembic reads them."""
        return ScriptDirectory.from_config(self.config())

    def scripts(self, *revisions: str) -> list[Script]:
        """Revisions by their ids."""
        return [script for script in self.script.get_revisions(revisions) if script]
