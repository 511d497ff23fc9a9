"""`Backfill` for the files of `alembic/backfills`."""

from safe_migrations.backfill.definition import Backfill

__all__ = ["Backfill"]
