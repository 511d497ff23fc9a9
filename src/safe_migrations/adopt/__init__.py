"""Models and a baseline for a database that exists already; and an existing Alembic project."""
