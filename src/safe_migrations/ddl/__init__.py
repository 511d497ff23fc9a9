"""Operations for revision files, registered with Alembic: indexes, constraints, enums and schemas."""

from safe_migrations.ddl import constraints, enums, indexes, schemas

__all__ = ["constraints", "enums", "indexes", "schemas"]
