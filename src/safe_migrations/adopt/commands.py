"""The command adopt, for a database that was built without migrations."""

import argparse

from safe_migrations.command_line import YES, Commands, project_of


def register(commands: Commands) -> None:
    """Register the commands of this room."""
    schema = "adopt this schema only; the option may be repeated"
    commands.add(
        "adopt",
        adopt,
        "write and prove a baseline and models for a database without a revision, and record the revision",
        ("--schema", {"action": "append", "default": [], "metavar": "NAME", "help": schema}),
        ("--dry-run", {"action": "store_true", "help": "do everything but record the revision in the database"}),
        YES,
    )


def adopt(arguments: argparse.Namespace) -> int:
    """Adopt a database that was built without migrations."""
    from safe_migrations.adopt import adoption

    adoption.adopt(
        project_of(arguments),
        arguments.schema,
        lambda line: print(line, flush=True),
        yes=arguments.yes,
        dry_run=arguments.dry_run,
    )
    return 0
