"""Operations for revision files, registered with Alembic: indexes, constraints, types, schemas, views, SQL files."""

from safe_migrations.ddl import constraints, dependents, domains, enums, indexes, schemas, sql_file, steps

__all__ = ["constraints", "dependents", "domains", "enums", "indexes", "schemas", "sql_file", "steps"]
