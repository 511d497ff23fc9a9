"""What a downgrade restores of what an upgrade drops, with what SQLAlchemy does not reflect."""

from alembic.operations import MigrateOperation, ops
from sqlalchemy import Connection, Constraint, ForeignKeyConstraint, UniqueConstraint

from safe_migrations.autogenerate.descriptions import Described, TableName, describe
from safe_migrations.autogenerate.rendering import plain_sql
from safe_migrations.postgres.sql import qualified

_KINDS: dict[type[Constraint], str] = {ForeignKeyConstraint: "foreign key", UniqueConstraint: "unique"}


def with_restoring(connection: Connection, operation: MigrateOperation) -> MigrateOperation:
    """The same operation; an operation that drops a constraint restores the whole constraint when reversed."""
    if not isinstance(operation, ops.DropConstraintOp):
        return operation
    constraint = operation.to_constraint()
    _complete(constraint, _described(connection, operation))
    return ops.DropConstraintOp.from_constraint(constraint)


def restored_table(
    connection: Connection, drop: ops.DropTableOp
) -> tuple[ops.CreateTableOp, tuple[MigrateOperation, ...]]:
    """The operation that restores a table without its rows, and the operations that follow."""
    described, create = _described(connection, drop), drop.reverse()
    for item in create.columns:
        if isinstance(item, Constraint):
            _complete(item, described)
    if ("persistence", "") in described:
        create.prefixes = [*(create.prefixes or ()), described["persistence", ""].definition]
    if ("partition key", "") in described:
        create.kw["postgresql_partition_by"] = described["partition key", ""].definition
    table = qualified(connection.dialect, drop.schema, drop.table_name)
    exclusions = [description for (kind, _), description in described.items() if kind == "exclusion"]
    add = f"ALTER TABLE {table} ADD CONSTRAINT"
    statements = (f"{add} {qualified(connection.dialect, item.name)} {item.definition}" for item in exclusions)
    return create, tuple(operation for statement in statements for operation in plain_sql(statement))


def _described(connection: Connection, operation: ops.DropConstraintOp | ops.DropTableOp) -> Described:
    name = TableName(operation.schema or str(connection.dialect.default_schema_name), operation.table_name)
    return describe(connection, [name]).get(name, {})


def _complete(constraint: Constraint, described: Described) -> None:
    """Add when it is checked, and how a foreign key matches."""
    description = described.get((_KINDS.get(type(constraint), ""), str(constraint.name)))
    if description is None:
        return
    constraint.deferrable = " DEFERRABLE" in description.definition or None
    constraint.initially = "DEFERRED" if " INITIALLY DEFERRED" in description.definition else None
    if isinstance(constraint, ForeignKeyConstraint) and " MATCH FULL" in description.definition:
        constraint.match = "FULL"
