"""Operations for revision files, registered with Alembic: indexes, constraints, enums, schemas and views."""

from safe_migrations.ddl import constraints, dependents, enums, indexes, schemas

__all__ = ["constraints", "dependents", "enums", "indexes", "schemas"]
