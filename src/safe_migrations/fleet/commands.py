"""The commands for many services: `safe-migrations fleet …`."""

import argparse
from pathlib import Path

from safe_migrations.command_line import JSON, Commands, Option
from safe_migrations.errors import runnable
from safe_migrations.fleet.services import Member, find_services

SELECTION: tuple[Option, ...] = (
    (
        "--only",
        {"action": "append", "default": [], "metavar": "PATTERN", "help": "only services whose path or name matches"},
    ),
    (
        "--exclude",
        {"action": "append", "default": [], "metavar": "PATTERN", "help": "no services whose path or name matches"},
    ),
)


def register(commands: Commands) -> None:
    """Register the commands of this room."""
    fleet = commands.group("fleet", "see, update and upgrade all services in this folder")
    fleet.add("status", status, "show the state of each service, and what to do next", *SELECTION, JSON)


def selected(arguments: argparse.Namespace) -> list[Member]:
    """The services that the options select.

    Raises:
        ConfigurationError: there is none.
    """
    return find_services(Path.cwd(), arguments.only, arguments.exclude)


def status(arguments: argparse.Namespace) -> int:
    """Show the state of each service; the exit status is that of the worst."""
    from safe_migrations.fleet import status_table
    from safe_migrations.fleet.processes import worst_status
    from safe_migrations.fleet.progress import progress
    from safe_migrations.fleet.status import as_json, read_statuses

    members = selected(arguments)
    with progress("Reading", len(members)) as ended:
        statuses = read_statuses(members, ended)
    print(as_json(statuses) if arguments.json else runnable(status_table.as_text(statuses)))
    return worst_status([status.exit_status for status in statuses])
