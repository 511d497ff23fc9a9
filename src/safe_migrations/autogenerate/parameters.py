"""Colons in SQL, which SQLAlchemy takes for parameters unless they are escaped, as in `'{"a":1}'`."""

from typing import Any

from alembic.ddl.impl import DefaultImpl
from alembic.operations import MigrateOperation
from alembic.operations.ops import CreateCheckConstraintOp
from sqlalchemy import ClauseElement, TextClause, text

from safe_migrations.postgres.sql import escaped


def escape_in_files(impl: DefaultImpl) -> None:
    """Let revision files contain expressions with their colons escaped, which Alembic writes as they are.

    The database's expressions come as text() whose colons are not escaped; DDL has no values for parameters.
    """
    plain = impl.render_ddl_sql_expr

    def render(expression: ClauseElement, **options: Any) -> str:
        inner = getattr(expression, "text", None)  # the text of an index's column is a text() in an element of Alembic
        wrapped = inner if isinstance(inner, TextClause) else expression
        parameters = expression.compile().params
        is_literal = isinstance(wrapped, TextClause) and parameters and not any(parameters.values())
        sql = wrapped.text if isinstance(wrapped, TextClause) and is_literal else plain(expression, **options)
        if options.get("is_index"):  # written as a literal_column(), which has no parameters
            return sql.replace(r"\:", ":")
        return escaped(sql)

    impl.render_ddl_sql_expr = render  # type: ignore[method-assign,assignment]


def condition_as_text(operation: MigrateOperation, impl: DefaultImpl) -> None:
    """Let a check be SQL; with columns of the models in it, each use of the operation would add it to the models."""
    if isinstance(operation, CreateCheckConstraintOp) and not isinstance(operation.condition, str | TextClause):
        operation.condition = text(escaped(impl.render_ddl_sql_expr(operation.condition)))


def predicate_as_text(operation: MigrateOperation) -> None:
    """Let the predicate of an index be an expression; that of the database is a string."""
    options = getattr(operation, "options", None) or getattr(operation, "kw", None) or {}
    if isinstance(predicate := options.get("postgresql_where"), str):
        options["postgresql_where"] = text(predicate)
