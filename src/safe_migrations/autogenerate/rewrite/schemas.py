"""Schemas that the models name and the database does not have."""

from dataclasses import replace
from typing import Any

from alembic.operations import MigrateOperation
from sqlalchemy import text

from safe_migrations.autogenerate.comparison import Comparison
from safe_migrations.autogenerate.plan import Change
from safe_migrations.autogenerate.rendering import Comment
from safe_migrations.ddl.schemas import CreateSchemaOp

CREATED_IN = "safe_migrations_schema"  # of an operation that is SQL


def with_created_schemas(changes: list[Change], comparison: Comparison) -> list[Change]:
    """The same with schemas that are created before their first table or enum, and dropped after their last one."""
    existing = set(comparison.connection.scalars(text("SELECT nspname FROM pg_namespace")))
    for place, change in reversed(list(enumerate(changes))):
        earlier = {_schema(operation) for before in changes[:place] for operation in before.upgrade}
        for schema in sorted({schema for operation in change.upgrade if (schema := _schema(operation))}):
            if schema not in existing | earlier:
                changes.insert(place, _create(schema, change))
    return changes


def _create(schema: str, before: Change) -> Change:
    create = CreateSchemaOp(schema)
    comment = Comment(f"Creates the schema {schema}, unless it exists.")
    downgrade = Comment("Drops the schema if it is empty."), create.reverse()
    title = f"create schema {schema}"
    return replace(before, title=title, upgrade=(comment, create), downgrade=downgrade, danger=None, backfill=None)


def _schema(operation: MigrateOperation) -> Any:
    return getattr(operation, "schema", None) or (operation.info or {}).get(CREATED_IN)
