"""An existing database, or an existing Alembic project, under the standard."""
