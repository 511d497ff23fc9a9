"""`python -m safe_migrations …`, from the service's folder: parse, call, print."""

import argparse
import sys
from typing import NoReturn

import config
from safe_migrations import development
from safe_migrations.errors import MigrationError


def main() -> None:
    """Run one command, and end with its exit status (2 for wrong usage)."""
    parser = argparse.ArgumentParser(prog="python -m safe_migrations")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, function, description in (
        ("db-up", db_up, "start the embedded development PostgreSQL and create the database"),
        ("db-down", db_down, "stop the embedded development PostgreSQL; its data stays"),
        ("db-shell", db_shell, "open psql on the configured database"),
    ):
        commands.add_parser(name, help=description, description=description).set_defaults(function=function)
    try:
        sys.exit(parser.parse_args().function())
    except MigrationError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit("Interrupted: the same command goes on from there.")


def db_up() -> int:
    """Start the development database, and configure the service to use it if no URL is configured."""
    cluster = development.development_cluster(config.SERVICE_FOLDER, config.POSTGRES_VERSION)
    settings = config.load_settings()
    if not cluster.is_running():
        print(f"Starting PostgreSQL {cluster.version()} …", flush=True)
    url = development.up(cluster, config.ENV_PREFIX, port=settings.db_port, database=settings.db_name)
    print(f"The database {url.database} is at {url}")
    variable, env_file = f"{config.ENV_PREFIX}_DATABASE_URL", config.SERVICE_FOLDER / ".env"
    if settings.url is None:
        writes = settings.db_host in ("localhost", url.host)
    else:  # of this cluster, but on another port
        writes = settings.database_url.password == url.password and settings.database_url != url
    if writes:
        development.write_url(url, env_file, variable)
        print(f"{variable} is now in {env_file}.")
    if (writes and settings.migration_url is None) or settings.migration_database_url == url:
        print("Next: pdm run migrate-upgrade")
    else:
        print(
            f"Migrations still go to {settings.migration_database_url}, as configured in the environment or in .env. "
            f"To use this database, remove {variable}, {config.ENV_PREFIX}_MIGRATION_DATABASE_URL and "
            f"{config.ENV_PREFIX}_DB_HOST from there; then pdm run db-up."
        )
    return 0


def db_down() -> int:
    """Stop the development database."""
    cluster = development.development_cluster(config.SERVICE_FOLDER, config.POSTGRES_VERSION)
    print("PostgreSQL is stopped." if cluster.stop() else "PostgreSQL was not running.")
    print(f"Its data stays in {cluster.folder / 'data'}; remove that folder to begin anew.")
    return 0


def db_shell() -> NoReturn:
    """Open psql on the configured database."""
    cluster = development.development_cluster(config.SERVICE_FOLDER, config.POSTGRES_VERSION)
    development.shell(config.load_settings().database_url, cluster.programs)
