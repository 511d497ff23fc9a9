"""The tests of alembic-safe-migrations, on a real PostgreSQL."""

from safe_migrations.testing.suite import (  # noqa: F401  # pytest finds them here
    test_files_are_in_order,
    test_models_equal_schema,
    test_new_revisions_do_what_their_phase_allows,
    test_nothing_is_left_of_an_update,
    test_offline_sql_runs_through_psql,
    test_one_head,
    test_stairway,
    test_upgrade_persists,
)
