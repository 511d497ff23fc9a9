"""The developer's commands: db-up, db-down, db-shell."""

import argparse

from safe_migrations.command_line import Commands, project_of, service_of
from safe_migrations.errors import runnable


def register(commands: Commands) -> None:
    """Register the commands of this room."""
    commands.add("db-up", db_up, "start the embedded development PostgreSQL and create the database")
    commands.add("db-down", db_down, "stop the embedded development PostgreSQL and keep its data")
    of_psql = ("arguments", {"nargs": argparse.REMAINDER, "help": 'arguments of psql, such as -c "SELECT 1"'})
    shell = commands.add("db-shell", db_shell, "open psql on the configured database", of_psql)
    shell.prefix_chars = ""  # options are psql's: argparse.REMAINDER alone does not begin with an option


def db_up(arguments: argparse.Namespace) -> int:
    """Start the development database, and configure the service to use it if no database is configured."""
    from safe_migrations.dev import database

    service = service_of(arguments)
    cluster = database.development_cluster(service)
    if not cluster.is_running():
        print(f"Starting PostgreSQL {cluster.version()} …", flush=True)
    url = database.up(cluster, service)
    print(f"The database {url.database} runs at {url}")
    for sentence in database.configure(service, url):
        print(runnable(sentence))
    return 0


def db_down(arguments: argparse.Namespace) -> int:
    """Stop the development database."""
    from safe_migrations.dev import database

    cluster = database.development_cluster(service_of(arguments))
    print("PostgreSQL was stopped." if cluster.stop() else "PostgreSQL was not running.")
    print(f"The data is in {cluster.folder / 'data'}. To start with an empty database, delete that folder.")
    return 0


def db_shell(arguments: argparse.Namespace) -> int:
    """Open psql on the configured database."""
    from safe_migrations.dev.database import shell
    from safe_migrations.postgres.database import application_database

    service = service_of(arguments)
    database = application_database(service) if service.env_prefix else project_of(arguments).database
    shell(database, arguments.arguments)
