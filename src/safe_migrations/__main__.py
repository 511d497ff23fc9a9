"""`python -m safe_migrations`, the same as `safe-migrations`."""

from safe_migrations.cli import main

main()
