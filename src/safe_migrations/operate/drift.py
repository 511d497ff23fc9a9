"""How the models of a project differ from its database, a line for each difference."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import DefaultClause, MetaData

from safe_migrations.autogenerate.description_comparison import SCHEMA_DIFFERENCE, definitions, not_compared
from safe_migrations.logs import quiet
from safe_migrations.postgres.sql import dotted

MANY_TABLES = 1000  # whose comparison takes seconds
_OF_REBUILD = re.compile(r"remove_index \S+_cc(new|old)\d* ")  # reported as invalid, or gone when the build ends

log = logging.getLogger(__name__)


def find_drift(migration_context: MigrationContext) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The differences between models and database, and what was not compared."""
    metadata = migration_context.opts["target_metadata"]
    tables = [key for models in ([metadata] if isinstance(metadata, MetaData) else metadata) for key in models.tables]
    if len(tables) > MANY_TABLES:
        log.info("Comparing %d tables of the models with the database.", len(tables))
    unknown: list[str] = []
    context = _without_unknown_tables(migration_context, frozenset(tables), unknown)
    with quiet("alembic"), quiet("safe_migrations.autogenerate"):  # they log each difference, and each plugin
        differences = compare_metadata(context, metadata)
    described = _joined([*map(_describe, differences)], definitions(context))
    drift = (line for line in described if not _OF_REBUILD.match(line))
    return (*drift, *(f"remove_table {name}" for name in sorted(unknown))), not_compared(context)


def _without_unknown_tables(
    migration_context: MigrationContext, known: frozenset[str], unknown: list[str]
) -> MigrationContext:
    """A context that compares the tables of the models, and notes the names of all other tables, unread."""
    options = migration_context.opts
    if options.get("include_object") is not None:  # which expects the whole table
        return migration_context
    default = migration_context.dialect.default_schema_name
    include = options["include_name"]

    def include_known(name: str | None, kind: str, parents: Any) -> bool:
        included = bool(include(name, kind, parents))
        if kind != "table" or not included:
            return included
        schema = parents["schema_name"]
        key = dotted(schema, str(name))
        if key in known or (not schema and f"{default}.{name}" in known):
            return True
        unknown.append(key)
        return False

    connection = migration_context.connection
    return MigrationContext.configure(connection, opts={**options, "include_name": include_known})


def _joined(lines: Sequence[str], definitions: Mapping[str, str]) -> Iterator[str]:
    """One line for an index or a constraint that is removed and added again, with both definitions."""
    for line in lines:
        action, _, rest = line.partition("_")
        kind, _, name = rest.partition(" ")
        is_joined = name in definitions and {f"remove_{rest}", f"add_{rest}"} <= set(lines)
        if not is_joined:
            yield line
        elif action == "add":
            yield f"modify_{kind} {name}: {definitions[name]}"


def _describe(difference: Any) -> str:
    """One difference, as `alembic check` names its operation, with the names of table and column."""
    if isinstance(difference, list):  # the changes of one column
        return "; ".join(_describe(change) for change in difference)
    operation, *details = difference
    if operation == SCHEMA_DIFFERENCE:
        return f"{operation} {details[0]}"
    if operation.startswith("modify_"):
        schema, table, column, _, before, after = details
        values = f"{_value(before)} in the database, {_value(after)} in the models"
        return f"{operation} {dotted(schema, table)}.{column}: {values}"
    if operation.endswith("_column"):
        return f"{operation} {dotted(*details[:2])}.{details[2].name}"
    subject = details[0]
    table = getattr(subject, "table", None)
    if table is None:
        return f"{operation} {getattr(subject, 'fullname', subject.name)}"
    return f"{operation} {subject.name} on {table.fullname}"


def _value(value: object) -> str:
    """A type, a comment, or a default as SQL."""
    return str(value.arg) if isinstance(value, DefaultClause) else repr(value or None)
