"""The commands for many services: `safe-migrations fleet …`."""

import argparse
from pathlib import Path

from safe_migrations.command_line import Commands, Option
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
    commands.group("fleet", "see, update and upgrade all services in this folder")


def selected(arguments: argparse.Namespace) -> list[Member]:
    """The services that the options select.

    Raises:
        ConfigurationError: there is none.
    """
    return find_services(Path.cwd(), arguments.only, arguments.exclude)
