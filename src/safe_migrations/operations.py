"""`op` for revision files: the operations of Alembic and of this library; operations.pyi has their types.

`SQLType` is a column type by its SQL.
"""

from alembic import op

from safe_migrations import ddl as _ddl  # noqa: F401  # registers the operations of this library
from safe_migrations.ddl.types import SQLType

__all__ = ["SQLType", "op"]
