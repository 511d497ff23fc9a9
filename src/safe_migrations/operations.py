"""`op` for revision files: Alembic's operations, and those of this library; operations.pyi has their types."""

from alembic import op

from safe_migrations import ddl as _ddl  # noqa: F401  # registers the operations of this library

__all__ = ["op"]
