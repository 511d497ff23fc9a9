"""Operations for domains in revision files, as types of their own, which several tables may use.

Columns refer to the domain with `postgresql.DOMAIN(…, create_type=False)`, so that no table creates it again.
See https://www.postgresql.org/docs/current/sql-createdomain.html
"""

from dataclasses import dataclass

from alembic.operations import MigrateOperation, Operations

from safe_migrations.ddl.registration import register
from safe_migrations.postgres.sql import ddl, qualified


@register
@dataclass(eq=False)
class CreateDomainOp(MigrateOperation):
    """CREATE DOMAIN."""

    name: str
    definition: str
    schema: str | None = None

    def reverse(self) -> "DropDomainOp":
        """Drop the domain."""
        return DropDomainOp(self.name, self.schema, self.definition)

    @classmethod
    def create_domain(cls, operations: Operations, name: str, definition: str, *, schema: str | None = None) -> None:
        """Create a domain, before the tables that use it.

        Args:
            operations: given by Alembic.
            name: the domain's name.
            definition: as SQL, what follows `AS` in CREATE DOMAIN, such as `integer NOT NULL CHECK (VALUE > 0)`.
            schema: the domain's.
        """
        operations.invoke(cls(name, definition, schema))

    def run(self, operations: Operations) -> None:
        """Create the domain."""
        name = qualified(operations.get_context().dialect, self.schema, self.name)
        operations.execute(ddl("CREATE DOMAIN %(name)s AS %(definition)s", name=name, definition=self.definition))


@register
@dataclass(eq=False)
class DropDomainOp(MigrateOperation):
    """DROP DOMAIN."""

    name: str
    schema: str | None = None
    definition: str = ""

    def reverse(self) -> CreateDomainOp:
        """Create the domain again."""
        return CreateDomainOp(self.name, self.definition, self.schema)

    @classmethod
    def drop_domain(cls, operations: Operations, name: str, *, schema: str | None = None) -> None:
        """Drop a domain, after the columns that use it.

        Args:
            operations: given by Alembic.
            name: the domain's name.
            schema: the domain's.
        """
        operations.invoke(cls(name, schema))

    def run(self, operations: Operations) -> None:
        """Drop the domain."""
        name = qualified(operations.get_context().dialect, self.schema, self.name)
        operations.execute(ddl("DROP DOMAIN %(name)s", name=name))
