"""Operations for revision files that add a constraint to a table without blocking reads and writes for long.

See https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-NOTES
"""

from dataclasses import dataclass

from alembic.operations import MigrateOperation, Operations

from safe_migrations.ddl.registration import register
from safe_migrations.postgres.sql import ddl, qualified


@dataclass(eq=False)
class _ConstraintOperation(MigrateOperation):
    constraint_name: str
    table_name: str
    schema: str | None = None

    def alter_table(self, operations: Operations, action: str, **names: str) -> None:
        """Run ALTER TABLE with an action on the constraint."""
        dialect = operations.get_context().dialect
        quoted = {key: qualified(dialect, name) for key, name in names.items()}
        quoted |= {"constraint": qualified(dialect, self.constraint_name)}
        table = qualified(dialect, self.schema, self.table_name)
        operations.execute(ddl(f"ALTER TABLE %(table)s {action}", table=table, **quoted))


@register
class ValidateConstraintOp(_ConstraintOperation):
    """ALTER TABLE … VALIDATE CONSTRAINT."""

    @classmethod
    def validate_constraint(
        cls, operations: Operations, constraint_name: str, table_name: str, *, schema: str | None = None
    ) -> None:
        """Validate a foreign key or a check that was added NOT VALID, without blocking reads or writes.

        Args:
            operations: given by Alembic.
            constraint_name: the constraint's name; nothing happens if it is already valid.
            table_name: its table's.
            schema: the table's.
        """
        operations.invoke(cls(constraint_name, table_name, schema))

    def run(self, operations: Operations) -> None:
        """Validate the constraint."""
        self.alter_table(operations, "VALIDATE CONSTRAINT %(constraint)s")


@register
@dataclass(eq=False)
class CreateUniqueConstraintUsingIndexOp(_ConstraintOperation):
    """ALTER TABLE … ADD CONSTRAINT … UNIQUE USING INDEX."""

    index_name: str | None = None
    deferrable: bool | None = None
    initially: str | None = None

    @classmethod
    def create_unique_constraint_using_index(
        cls,
        operations: Operations,
        constraint_name: str,
        table_name: str,
        *,
        index_name: str | None = None,
        schema: str | None = None,
        deferrable: bool | None = None,
        initially: str | None = None,
    ) -> None:
        """Turn an existing unique index into a unique constraint; the index takes the constraint's name.

        Args:
            operations: given by Alembic.
            constraint_name: the constraint's name.
            table_name: its table's.
            index_name: the index's name, if it differs.
            schema: the table's.
            deferrable: whether the check can wait until the end of a transaction.
            initially: `DEFERRED` or `IMMEDIATE`.
        """
        operations.invoke(cls(constraint_name, table_name, schema, index_name, deferrable, initially))

    def run(self, operations: Operations) -> None:
        """Add the constraint."""
        action = "ADD CONSTRAINT %(constraint)s UNIQUE USING INDEX %(index)s"
        if self.deferrable:
            action += " DEFERRABLE"
        if (self.initially or "").upper() == "DEFERRED":
            action += " INITIALLY DEFERRED"
        self.alter_table(operations, action, index=self.index_name or self.constraint_name)
