"""The safe form of renames of tables and of values of enums; a renamed column is a new one, see `columns`."""

from alembic.operations import ops

from safe_migrations.autogenerate.comparison import Comparison, table_of
from safe_migrations.autogenerate.plan import Change, Changes, Stage
from safe_migrations.autogenerate.renames import RenameEnumValueOp
from safe_migrations.autogenerate.rendering import Comment, plain_sql
from safe_migrations.autogenerate.rewrite.dispatch import rewrite
from safe_migrations.postgres.sql import literal_sql, qualified
from safe_migrations.upgrade.phases import CONTRACT


@rewrite.register
def rename_table(operation: ops.RenameTableOp, comparison: Comparison) -> Changes:
    """Rename a table; a view of the old name serves the running code until the new code runs everywhere."""
    dialect, old, new = comparison.connection.dialect, table_of(operation), operation.new_table_name
    view, table = (qualified(dialect, operation.schema, name) for name in (operation.table_name, new))
    create = plain_sql(f"CREATE VIEW {view} WITH (security_invoker = true) AS SELECT * FROM {table}")  # noqa: S608
    drop = plain_sql(f"DROP VIEW {view}")
    back = ops.RenameTableOp(new, operation.table_name, schema=operation.schema)
    yield Change(
        Stage.RENAMES,
        old,
        f"rename {old} to {new}",
        (
            Comment("Metadata only. The running code reads and writes through the view."),
            Comment("safe: contract-in-expand because the view serves the running code"),
            operation,
            *create,
        ),
        (*drop, back),
        alone=True,
        danger=f"{old} becomes a view of {new}, on which other roles than the owner need their privileges",
    )
    yield Change(
        Stage.DROP_TABLES,
        old,
        f"drop the view {old}",
        (Comment("Drops the view, which no code uses; the rows are in the table."), *drop),
        create,
        CONTRACT,
    )


@rewrite.register
def rename_value(operation: RenameEnumValueOp, comparison: Comparison) -> Changes:
    """Rename a value of an enum, which PostgreSQL does in place; there is no form that serves old and new code."""
    rename, dialect = operation.rename, comparison.connection.dialect
    schema, _, name = str(rename.owner).rpartition(".")
    enum = qualified(dialect, schema or None, name)
    old, new = (literal_sql(dialect, value) for value in (rename.old, rename.new))
    upgrade, downgrade = (
        plain_sql(f"ALTER TYPE {enum} RENAME VALUE {before} TO {after}") for before, after in ((old, new), (new, old))
    )
    yield Change(
        Stage.ENUMS,
        f"enum {rename.owner}",
        f"rename {rename.old_name} to {rename.new}",
        (Comment("Metadata only: the rows get the new name."), *upgrade),
        downgrade,
        CONTRACT,
        alone=True,
        danger=f"before this revision the enum {rename.owner} has no {new}, and after it no {old}: queries fail",
    )
