"""`python -m safe_migrations`."""

from safe_migrations.cli import main

if __name__ == "__main__":
    main()
