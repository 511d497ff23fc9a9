"""`alembic upgrade` and `downgrade`: the project, states, phases, applying revisions, data loss. Private."""
