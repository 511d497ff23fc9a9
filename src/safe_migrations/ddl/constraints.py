"""Operations for revision files that put a constraint on a table while others read and write it.

See https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-NOTES
"""

from typing import Any

from alembic.operations import MigrateOperation, Operations
from sqlalchemy import DDL

from safe_migrations.postgres.sql import ddl, qualified


class _ConstraintOperation(MigrateOperation):
    operation: str

    def __init__(self, constraint_name: str, table_name: str, schema: str | None, **options: Any) -> None:
        self.constraint_name = constraint_name
        self.table_name = table_name
        self.schema = schema
        self.options = options


@Operations.register_operation("validate_constraint")
class ValidateConstraintOp(_ConstraintOperation):
    """ALTER TABLE … VALIDATE CONSTRAINT."""

    operation = "validate_constraint"

    @classmethod
    def validate_constraint(
        cls, operations: Operations, constraint_name: str, table_name: str, *, schema: str | None = None
    ) -> None:
        """Check the rows that a foreign key or a check has not been checked on; others read and write meanwhile.

        Args:
            operations: given by Alembic.
            constraint_name: the constraint's name; one that is valid already is left at that.
            table_name: its table's.
            schema: the table's.
        """
        operations.invoke(cls(constraint_name, table_name, schema))


@Operations.register_operation("create_unique_constraint_using_index")
class CreateUniqueConstraintUsingIndexOp(_ConstraintOperation):
    """ALTER TABLE … ADD CONSTRAINT … UNIQUE USING INDEX."""

    operation = "create_unique_constraint_using_index"

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
        """Make a unique constraint of a unique index that exists; the index takes the constraint's name.

        Args:
            operations: given by Alembic.
            constraint_name: the constraint's name.
            table_name: its table's.
            index_name: the index's name, if it is another one.
            schema: the table's.
            deferrable: whether it can wait for the end of a transaction.
            initially: `DEFERRED` or `IMMEDIATE`.
        """
        options = {"index_name": index_name or constraint_name, "deferrable": deferrable, "initially": initially}
        operations.invoke(cls(constraint_name, table_name, schema, **options))


@Operations.implementation_for(ValidateConstraintOp)
def _validate(operations: Operations, operation: ValidateConstraintOp) -> None:
    operations.execute(_alter_table(operations, operation, "VALIDATE CONSTRAINT %(constraint)s"))


@Operations.implementation_for(CreateUniqueConstraintUsingIndexOp)
def _create_using_index(operations: Operations, operation: CreateUniqueConstraintUsingIndexOp) -> None:
    action = "ADD CONSTRAINT %(constraint)s UNIQUE USING INDEX %(index)s"
    if operation.options["deferrable"]:
        action += " DEFERRABLE"
    if (operation.options["initially"] or "").upper() == "DEFERRED":
        action += " INITIALLY DEFERRED"
    operations.execute(_alter_table(operations, operation, action, index=operation.options["index_name"]))


def _alter_table(operations: Operations, operation: _ConstraintOperation, action: str, **names: str) -> DDL:
    dialect = operations.get_context().dialect
    names |= {"constraint": operation.constraint_name}
    table = qualified(dialect, operation.schema, operation.table_name)
    return ddl(
        f"ALTER TABLE %(table)s {action}", table=table, **{key: qualified(dialect, name) for key, name in names.items()}
    )
