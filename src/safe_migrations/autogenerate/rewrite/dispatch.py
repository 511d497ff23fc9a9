"""The safe form of each operation that autogenerate finds; each module of this package registers its own.

Learned from strong_migrations (https://github.com/ankane/strong_migrations), which names the safe form of each change,
and pgroll (https://github.com/xataio/pgroll), which runs them. Operations on tables that the same change creates need
none.
"""

from functools import singledispatch
from typing import Any

from alembic.operations import ops

from safe_migrations.autogenerate.comparison import Comparison, table_of
from safe_migrations.autogenerate.plan import Change, Changes, Stage
from safe_migrations.autogenerate.rendering import Comment

METADATA_ONLY = "Metadata only: no rows are read or rewritten."


@singledispatch
def rewrite(operation: Any, _comparison: Comparison) -> Changes:
    """The changes that do safely what an operation of Alembic does; by default the operation itself."""
    table = table_of(operation)
    is_comment = isinstance(operation, ops.CreateTableCommentOp | ops.DropTableCommentOp)
    title = f"{'comment on' if is_comment else 'change'} {table}"
    yield Change(Stage.COLUMNS, table, title, (Comment(METADATA_ONLY), operation), (operation.reverse(),))
