"""Whether the ids of revisions fit into the table that records the revision."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alembic.runtime.migration import MigrationContext
from alembic.script import Script
from sqlalchemy import Connection, inspect

from safe_migrations.errors import RevisionError
from safe_migrations.postgres.catalog import version_table

LIMIT = 32  # characters in the column that Alembic creates
_COLUMN = "version_num"


def refuse_long_ids(connection: Connection, scripts: Sequence[Script], options: Mapping[str, Any]) -> None:
    """Refuse revisions whose ids PostgreSQL could not record.

    Raises:
        RevisionError: an id is longer than the column; nothing was changed.
    """
    if all(len(script.revision) <= LIMIT for script in scripts):
        return
    width = _width(connection, options)
    for script in scripts:
        if _COLUMN in Path(script.path).read_text(encoding="utf-8"):  # this file may widen the column
            return
        if width is not None and len(script.revision) > width:
            raise RevisionError(
                f"The revision id {script.revision} in {os.path.relpath(script.path)} has {len(script.revision)} "
                f"characters, and the column {_COLUMN} of the version table holds {width}. Nothing was changed. "
                "Shorten the id in this file and in down_revision of the next file, or widen the column. Then run the "
                "same command again."
            )


def _width(connection: Connection, options: Mapping[str, Any]) -> int | None:
    """The characters that the column takes; None for any number."""
    schema, name = version_table(options)
    inspector = inspect(connection)
    if inspector.has_table(name, schema):
        types = {column["name"]: column["type"] for column in inspector.get_columns(name, schema)}
        return getattr(types.get(_COLUMN), "length", LIMIT)
    implementation = MigrationContext.configure(connection, opts=dict(options)).impl
    new = implementation.version_table_impl(version_table=name, version_table_schema=schema, version_table_pk=True)
    return getattr(new.c[_COLUMN].type, "length", LIMIT)
