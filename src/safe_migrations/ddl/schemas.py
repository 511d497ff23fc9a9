"""Operations for revision files that create and drop a schema."""

from alembic.operations import MigrateOperation, Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import TextClause

from safe_migrations.ddl.registration import register
from safe_migrations.postgres.sql import ddl, qualified, read_sql

_SQL = read_sql(__package__, "schemas.sql")


class _SchemaOperation(MigrateOperation):
    def __init__(self, name: str) -> None:
        self.name = name

    def execute(self, operations: Operations, condition: TextClause, statement: str) -> None:
        """Run a statement if a condition holds; offline, always."""
        context = operations.get_context()
        if context.as_sql or operations.get_bind().scalar(condition, {"name": self.name}):
            operations.execute(ddl(statement, schema=qualified(context.dialect, self.name)))


@register
class CreateSchemaOp(_SchemaOperation):
    """CREATE SCHEMA, in a revision."""

    @classmethod
    def create_schema(cls, operations: Operations, name: str) -> None:
        """Create a schema, unless it exists; no right to create schemas is needed then.

        Args:
            operations: given by Alembic.
            name: the schema's name.
        """
        operations.invoke(cls(name))

    def run(self, operations: Operations) -> None:
        """Create the schema."""
        self.execute(operations, _SQL["is_missing"], "CREATE SCHEMA IF NOT EXISTS %(schema)s")

    def reverse(self) -> "DropSchemaOp":
        """Drop the schema again."""
        return DropSchemaOp(self.name)


@register
class DropSchemaOp(_SchemaOperation):
    """DROP SCHEMA, in a revision."""

    @classmethod
    def drop_schema(cls, operations: Operations, name: str) -> None:
        """Drop a schema, if it is empty and belongs to the user who migrates; otherwise do nothing.

        Args:
            operations: given by Alembic.
            name: the schema's name.
        """
        operations.invoke(cls(name))

    def run(self, operations: Operations) -> None:
        """Drop the schema."""
        self.execute(operations, _SQL["is_empty"], "DROP SCHEMA IF EXISTS %(schema)s")


def create_version_schema(context: MigrationContext) -> None:
    """Create the schema of the version table, if it has one of its own, unless it exists."""
    if context.version_table_schema and not context.opts.get("dont_mutate"):
        CreateSchemaOp(context.version_table_schema).run(Operations(context))
