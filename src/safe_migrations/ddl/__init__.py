"""Operations for revision files, registered with Alembic: indexes, constraints and enums."""

from safe_migrations.ddl import constraints, enums, indexes

__all__ = ["constraints", "enums", "indexes"]
