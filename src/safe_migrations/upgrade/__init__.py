"""What `alembic upgrade` does: states, phases, applying, data loss; and the project that it does it for. Private."""
