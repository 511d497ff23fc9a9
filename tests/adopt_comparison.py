"""The models that `adopt` writes for a database, beside the database: what `alembic check` and `pg_dump` say."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from secrets import token_hex
from types import ModuleType
from typing import Any

import asyncpg  # type: ignore[import-untyped]
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import URL, Connection, MetaData
from sqlalchemy.dialects.postgresql import ENUM
from sqlalchemy.orm import DeclarativeBase

from safe_migrations.adopt.models import write_models
from safe_migrations.autogenerate.column_types import named_type_of
from safe_migrations.autogenerate.description_comparison import not_compared
from safe_migrations.autogenerate.plugin import PLUGINS, SCOPE, Scope
from safe_migrations.postgres.connection import run_async
from safe_migrations.postgres.programs import find_programs
from safe_migrations.postgres.rollback import execute_apart
from safe_migrations.postgres.sql import qualified
from support import as_text, on

_WORD = re.compile(r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)(?:\.(?:"(?:[^"]|"")+"|[^\W\d][\w$]*))*')
_ENTRY = re.compile(
    r"^--\n-- Name: (.*); Type: (.*); Schema: (.*); Owner: .*\n--\n\n([\s\S]*?)(?=^--\n|\Z)", re.MULTILINE
)


def imported(source: str) -> type[DeclarativeBase]:
    """The base of a module of models."""
    module = ModuleType(f"models_{token_hex(8)}")
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, "models_db.py", "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    finally:
        del sys.modules[module.__name__]
    base: type[DeclarativeBase] = module.__dict__["Base"]
    return base


def load(url: URL, sql: str) -> None:
    """Execute the statements of a file."""

    async def execute() -> None:
        connection = await asyncpg.connect(as_text(url))
        await connection.execute(sql)
        await connection.close()

    run_async(execute())


def models_of(url: URL, schemas: Sequence[str] | None = None) -> str:
    """The source of a database's models."""
    source: str = on(url, write_models, schemas)
    return source


def check(url: URL, metadata: MetaData) -> tuple[list[Any], tuple[str, ...]]:
    """What `alembic check` reports, and what was not compared."""

    def compare(connection: Connection) -> tuple[list[Any], tuple[str, ...]]:
        scope = Scope(None)
        options = {
            "target_metadata": metadata,
            "compare_server_default": True,
            "autogenerate_plugins": PLUGINS,
            "include_name": scope.include_name,
            SCOPE: scope,
        }
        context = MigrationContext.configure(connection, opts=options)
        return compare_metadata(context, metadata), not_compared(context)

    compared: tuple[list[Any], tuple[str, ...]] = on(url, compare)
    return compared


def dump(url: URL) -> set[tuple[str, str, str, str]]:
    """What `pg_dump --schema-only` says: the kind, the schema, the name and the statements of each object."""
    program = find_programs(18, exactly=True) / "pg_dump"
    command = [os.fspath(program), "--schema-only", "--no-owner", "--no-privileges", f"--dbname={as_text(url)}"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {(kind, schema, name, sql.strip()) for name, kind, schema, sql in _ENTRY.findall(text)}


def unexplained(url: URL, metadata: MetaData, listed: Iterable[str]) -> list[tuple[str, str]]:
    """What `create_all` makes differently, and no line of `not_in_models` names; the database is changed."""
    before = dump(url)
    create_again(url, metadata)
    after = dump(url)
    names = [line.partition(" ")[2] for line in listed]
    words = [[word for word in _WORD.findall(name) if "." in word or '"' in word] or [name] for name in names]
    return sorted(
        (side, " ".join(entry))
        for side, entries in (("lost", before - after), ("new", after - before))
        for entry in entries
        if not any(_names(entry, of_line) for of_line in words)
    )


def _names(entry: tuple[str, ...], words: list[str]) -> bool:
    """Whether words are the words of an entry; a table's parts are in the table's own entry."""
    kind, schema, name, sql = entry
    matches = any if kind in ("TABLE", "SEQUENCE", "INDEX") else all
    return matches(word in f"{sql} {schema}.{name}" for word in words)


def create_again(url: URL, metadata: MetaData) -> None:
    """Drop what the models hold, with all that depends on it, and let the models create it."""

    def create(connection: Connection) -> None:
        quote = partial(qualified, connection.dialect)
        columns = (column for table in metadata.tables.values() for column in table.columns)
        types: Iterable[Any] = filter(None, (named_type_of(column.type) for column in columns))
        drops = [f"DROP TABLE {quote(table.schema, table.name)} CASCADE" for table in metadata.tables.values()]
        drops += [f"DROP SEQUENCE IF EXISTS {quote(item.schema, item.name)}" for item in metadata._sequences.values()]
        drops += dict.fromkeys(
            f"DROP {'TYPE' if isinstance(item, ENUM) else 'DOMAIN'} {quote(item.schema, item.name)}" for item in types
        )
        # A type on which another one depends is kept.
        execute_apart(connection, {drop: drop for drop in drops})
        metadata.create_all(connection)
        connection.commit()

    on(url, create)
