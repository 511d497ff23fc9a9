"""The tables and columns that a revision removes although the models still have them."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import to_list
from sqlalchemy import MetaData

from safe_migrations.lint.offline import run_offline
from safe_migrations.lint.registry import Place
from safe_migrations.lint.revision import Revision
from safe_migrations.lint.statements import (
    ADD_COLUMN,
    DROP_COLUMN,
    DROP_TABLE,
    RENAME_COLUMN,
    Statement,
    altered,
    bare,
    bare_name,
    names_in,
)
from safe_migrations.logs import quiet
from safe_migrations.postgres.statements import CREATE_TABLE, pattern
from safe_migrations.upgrade.project import load_project

Name = tuple[str, ...]  # a table, or a table and a column

_RENAME_COLUMN_TO, _RENAME_TABLE_TO = pattern(RENAME_COLUMN.pattern + " (<name>)"), pattern(r"RENAME TO (<name>)")


def load_models(config: Config) -> list[MetaData]:
    """The metadata of the models, as `env.py` passes them to `run_env`; none, with a note, if that fails."""
    env = Path(ScriptDirectory.from_config(config).env_py_location)
    if "run_env" not in env.read_text(encoding="utf-8"):  # another env.py would connect to a database
        return []
    try:
        with quiet("alembic"), redirect_stdout(sys.stderr):  # env.py sets the level of loggers
            models: list[MetaData] = to_list(load_project(config).options.get("target_metadata")) or []
    except (Exception, SystemExit) as error:  # the code of the project may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        print(f"lint: can't check what the models still have, because {env} fails ({reason})", file=sys.stderr)
        return []
    return models


def names_in_models(models: Iterable[MetaData]) -> set[Name]:
    """The tables of models, and their columns."""
    tables = {bare_name(table.schema, table.name): table for metadata in models for table in metadata.tables.values()}
    columns = {(name, column.name) for name, table in tables.items() for column in table.columns}
    return {*((name,) for name in tables), *columns}


def still_in_models(
    script_directory: ScriptDirectory, revisions: Iterable[Revision], models: Callable[[], set[Name]]
) -> Iterator[tuple[Revision, Place]]:
    """The names that revisions remove, that no later statement brings back, and that the models have.

    Args:
        models: returns the names in the models; called only if a revision takes something away.
    """

    @cache
    def added_later() -> dict[str, set[Name]]:
        later: dict[str, set[Name]] = {}
        names: set[Name] = set()
        for script in script_directory.walk_revisions():  # the newest first
            later[script.revision] = names
            names = names.union(*map(_added, run_offline(script, "upgrade")[0]))
        return later

    for revision in revisions:
        for number, statement in enumerate(revision.upgrade):
            gone = _gone(statement)
            for name in sorted(gone & models()) if gone else ():
                following = set().union(*map(_added, revision.upgrade[number + 1 :]))
                if not {name, name[:1]} & (following | added_later()[revision.script.revision]):
                    yield revision, (statement.line, ".".join(name))


def _gone(statement: Statement) -> set[Name]:
    """The names that a statement removes."""
    dropped = DROP_TABLE.match(statement.plain)
    names: set[Name] = {(name,) for name in names_in(dropped[1])} if dropped else set()
    for _, table, action in altered([statement], set()):
        renamed = RENAME_COLUMN.match(action)
        columns = [renamed[1]] if renamed else DROP_COLUMN.findall(action)
        names |= {(table, bare(column)) for column in columns}
        names |= {(table,)} if _RENAME_TABLE_TO.match(action) else set()
    return names


def _added(statement: Statement) -> set[Name]:
    """The names that exist after a statement, and did not before."""
    created = CREATE_TABLE.match(statement.plain)
    names: set[Name] = {(bare(created[1]),)} if created else set()
    for _, table, action in altered([statement], set()):
        renamed = _RENAME_COLUMN_TO.match(action)
        columns = [renamed[2]] if renamed else ADD_COLUMN.findall(action)
        names |= {(table, bare(column)) for column in columns}
        if match := _RENAME_TABLE_TO.match(action):
            schema, _, _ = table.rpartition(".")
            names.add((bare_name(schema, bare(match[1])),))
    return names
