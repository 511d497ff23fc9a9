"""A rendered service whose Alembic runs in the tests' own process: faster than a process for each command."""

import re
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import URL, Connection, MetaData

from safe_migrations.backfill.definition import load_backfill
from safe_migrations.backfill.running import Pace, run_backfill
from safe_migrations.errors import MigrationError
from safe_migrations.lint.check import lint
from safe_migrations.lint.findings import Finding
from safe_migrations.postgres.connection import run_async
from support import Service, as_text, at, fetch, on

_OF_THE_SERVICE = ("config", "models_db")  # its own modules
_EXAMPLE = re.compile(r"\n\nclass Item\(Base\):.*", re.DOTALL)
_ASKED = re.compile(r"(\S+\.py):(\d+): the danger of this revision is not acknowledged")
_NEEDED = re.compile(r"safe-migrations backfill '?(\w+)")

_START = '''"""What is there before the test."""

revision: str = "start"
down_revision = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
'''

_SCHEMA = """
    SELECT attrelid::regclass::text AS table, attname::text AS name,
      concat_ws(' ', format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
        regexp_replace(pg_get_expr(adbin, adrelid), '::[a-z ]+|''', '', 'g'), col_description(attrelid, attnum)
      ) AS what
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped
    UNION ALL SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
    UNION ALL SELECT indrelid::regclass::text, indexrelid::regclass::text, pg_get_indexdef(indexrelid) || indisvalid
    FROM pg_index JOIN pg_class c ON c.oid = indrelid WHERE c.relnamespace = 'public'::regnamespace
    UNION ALL SELECT enumtypid::regtype::text, enumlabel, 'value' FROM pg_enum
    ORDER BY 1, 2, 3
"""


class Inside:
    """A service, its models, and its database."""

    def __init__(self, service: Service, url: URL) -> None:
        """Take the example's model and revision away.

        Args:
            service: a rendering.
            url: of its database, empty as yet.
        """
        self.service = service
        self.url = url
        self._models = service.folder / "models_db.py"
        self._imported: tuple[str, dict[str, ModuleType]] = ("", {})  # the models' text, and the modules
        self._header, count = _EXAMPLE.subn("\n", self._models.read_text())
        assert count == 1
        for path in service.versions.glob("*.py"):
            path.unlink()
        service.versions.joinpath("HEAD").unlink()

    def write_models(self, text: str) -> MetaData:
        """Replace the models.

        Args:
            text: what follows `class Base`; SQLAlchemy is there as `sa`, and its PostgreSQL as `postgresql`.

        Returns:
            Their tables.
        """
        imports = "import sqlalchemy as sa\nfrom sqlalchemy.dialects import postgresql\n"
        self._models.write_text(self._header.replace("from datetime", f"{imports}from datetime", 1) + text)
        with self._modules():
            import models_db  # type: ignore[import-not-found]  # it is in the rendering

            metadata: MetaData = models_db.Base.metadata
            return metadata

    def begin(self, models: str) -> MetaData:
        """Write the first models, create their tables, and write an empty revision `start`: faster than an upgrade.

        What autogenerate writes for an empty database is seen elsewhere.
        """
        metadata = self.write_models(models)
        self.service.versions.joinpath("20300101_0001_start.py").write_text(_START)

        def create(connection: Connection) -> None:
            metadata.create_all(connection)
            MigrationContext.configure(connection).stamp(self.scripts, "start")
            connection.commit()

        on(self.url, create)
        return metadata

    def alembic(self, function: Callable[..., object], *arguments: Any, x: Sequence[str] = (), **options: Any) -> None:
        """Call an Alembic command: `inside.alembic(command.upgrade, "head")`.

        Args:
            function: the command.
            arguments: its arguments.
            x: what the command line has as `-x`.
            options: its keywords.
        """
        with self._modules():
            function(self._config(x), *arguments, **options)

    def autogenerate(self, message: str, x: Sequence[str] = ()) -> list[Script]:
        """Write the revisions from the database to the models, and return them in the order in which they run."""
        before = {script.revision for script in self.history()}
        self.alembic(command.revision, message, x=x, autogenerate=True)
        return [script for script in self.history() if script.revision not in before]

    def history(self) -> list[Script]:
        """The revisions, in the order in which they run."""
        return list(self.scripts.walk_revisions())[::-1]

    @property
    def scripts(self) -> ScriptDirectory:
        """The revision files as they are now."""
        return ScriptDirectory.from_config(self._config())

    def lint(self, scripts: Sequence[Script], postgres_version: int = 18) -> list[Finding]:
        """What lint finds in revisions."""
        directory = self.scripts
        current = [script for script in directory.get_revisions([script.revision for script in scripts]) if script]
        return lint(directory, current, postgres_version)

    def upgrade(self, revision: str, values: Callable[[str], str]) -> list[str]:
        """Upgrade as the runner says: acknowledge what it asks for, run the backfills that it names.

        Args:
            revision: where to.
            values: gives what a backfill fills in, in Python, where nobody but a person knows it.

        Returns:
            What the runner has asked for, in order: the names of files and of backfills.
        """
        asked: list[str] = []
        while True:
            try:
                self.alembic(command.upgrade, revision)
                return asked
            except MigrationError as error:
                sentence = str(error)
            dangers, backfills = _ASKED.findall(sentence), _NEEDED.findall(sentence)
            for path, line in dangers:
                _uncomment(self.service.versions / Path(path).name, int(line))
            for name in backfills:
                self.backfill(name, values)
            assert dangers or backfills, sentence
            asked += [*(Path(path).name for path, _ in dangers), *backfills]
            assert len(asked) == len(set(asked)), sentence

    def backfill(self, name: str, values: Callable[[str], str]) -> None:
        """Run a backfill, with values written into its file if it has none."""
        folder = self.service.folder / "alembic" / "backfills"
        file = folder / f"{name}.py"
        text, count = re.subn(r"values=\{\},.*", lambda _: f"values={values(name)},", file.read_text())
        if count:
            with pytest.raises(MigrationError, match=name):
                self._run_backfill(folder, name)
            file.write_text(text)
        self._run_backfill(folder, name)

    def _run_backfill(self, folder: Path, name: str) -> None:
        run_async(run_backfill(at(self.url), folder, name, load_backfill(folder, name), Pace(nice_ratio=0)))

    def _config(self, x: Sequence[str] = ()) -> Config:
        return Config(self.service.folder / "alembic.ini", cmd_opts=Namespace(x=list(x)) if x else None)

    @contextmanager
    def _modules(self) -> Iterator[None]:
        """Its modules, and none of another rendering; and its settings."""
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(self.service.folder)
            patch.setenv(f"{self.service.env_prefix}_DATABASE_URL", as_text(self.url))
            # What Python caches for a file is found by its second and size: too little for files that tests write.
            patch.setattr(sys, "dont_write_bytecode", True)
            patch.setattr(SourceFileLoader, "source_to_code", lambda _, text, path: _compiled(bytes(text), path))
            for name in _OF_THE_SERVICE:
                sys.modules.pop(name, None)
            text = self._models.read_text()
            if text == self._imported[0]:
                sys.modules.update(self._imported[1])
            try:
                yield
            finally:
                self._imported = text, {name: sys.modules.pop(name) for name in _OF_THE_SERVICE if name in sys.modules}


@cache
def _compiled(text: bytes, path: str) -> CodeType:
    """The code of a file, which Alembic reads once for each command."""
    return compile(text, path, "exec", dont_inherit=True)


def _uncomment(path: Path, line: int) -> None:
    """Acknowledge what the runner asks for."""
    lines = path.read_text().splitlines(keepends=True)
    assert lines[line - 1].startswith("# acknowledged = ")
    lines[line - 1] = lines[line - 1].removeprefix("# ")
    path.write_text("".join(lines))


def schema(url: URL) -> set[tuple[str, ...]]:
    """All that the tables of a database consist of, but for the order of columns, and the types of their defaults."""
    return {tuple(row) for row in fetch(url, _SCHEMA)}
