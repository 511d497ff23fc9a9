"""Operations for revision files, registered with Alembic: indexes, constraints, types, schemas and views."""

from safe_migrations.ddl import constraints, dependents, domains, enums, indexes, schemas, steps

__all__ = ["constraints", "dependents", "domains", "enums", "indexes", "schemas", "steps"]
