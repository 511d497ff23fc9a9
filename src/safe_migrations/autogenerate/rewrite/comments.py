"""Comments on constraints, which Alembic neither writes nor compares."""

from dataclasses import replace

from alembic.operations import MigrateOperation, ops

from safe_migrations.autogenerate.comparison import Comparison, name_of, table_of
from safe_migrations.autogenerate.plan import Change
from safe_migrations.autogenerate.rendering import plain_sql
from safe_migrations.ddl.constraints import CreateUniqueConstraintUsingIndexOp
from safe_migrations.postgres.sql import literal_sql, qualified

COMMENT = "constraint comment"  # the kind of a difference


def comment_on(
    comparison: Comparison, table: str, schema: str | None, name: str, comment: str | None
) -> tuple[MigrateOperation, ...]:
    """Give a constraint another comment, or none."""
    dialect = comparison.connection.dialect
    owner, text = qualified(dialect, schema, table), "NULL" if comment is None else literal_sql(dialect, comment)
    return plain_sql(f"COMMENT ON CONSTRAINT {qualified(dialect, name)} ON {owner} IS {text}")


def with_comments_on_constraints(changes: list[Change], comparison: Comparison) -> list[Change]:
    """The same, in which each new constraint gets its comment, which Alembic does not write."""
    return [
        replace(change, upgrade=(*change.upgrade, *comments)) if (comments := _comments(change, comparison)) else change
        for change in changes
    ]


def _comments(change: Change, comparison: Comparison) -> list[MigrateOperation]:
    comments: list[MigrateOperation] = []
    for operation in change.upgrade:
        is_table = isinstance(operation, ops.CreateTableOp)
        if not is_table and not isinstance(operation, ops.AddConstraintOp | CreateUniqueConstraintUsingIndexOp):
            continue
        table = comparison.tables.get(table_of(operation))
        for constraint in sorted(table.constraints if table is not None else (), key=lambda item: str(item.name)):
            if constraint.comment and (is_table or str(constraint.name) == name_of(operation)[1]):
                name = str(constraint.name)
                comments += comment_on(
                    comparison, constraint.table.name, constraint.table.schema, name, constraint.comment
                )
    return comments
