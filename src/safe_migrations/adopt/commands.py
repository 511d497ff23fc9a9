"""The command adopt, for a database that was built without migrations."""

import argparse
import os
from typing import TYPE_CHECKING

from safe_migrations.command_line import YES, Commands, config_of, project_of

if TYPE_CHECKING:
    from safe_migrations.adopt.adoption import Adopted
    from safe_migrations.upgrade.project import Project

SHOWN = 20  # names of objects
LEFT_TO_PLATFORM = "Owners, privileges, tablespaces and security labels are left to the platform."


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
    from safe_migrations.postgres.connection import run_async

    project = project_of(arguments)
    print(f"Reading the schema of the database {project.database.name!r} at {project.database.host} …", flush=True)
    existing = run_async(adoption.read(project, arguments.schema))
    for tool in adoption.other_tools(existing.state):
        print(f"{tool} has made this schema. From now on, only Alembic may change it: stop {tool}.")
    adopted = run_async(adoption.write_and_prove(project, existing, arguments.schema, _report))
    _show(adopted)
    if arguments.dry_run:
        print("The revision was not recorded (--dry-run). To record it:\nsafe-migrations adopt")
        return 0
    _record(project, adopted, arguments)
    return 0


def _report(line: str) -> None:
    print(f"  {line}", flush=True)


def _show(adopted: "Adopted") -> None:
    from safe_migrations.printable import printable

    print(LEFT_TO_PLATFORM)
    names = adopted.only_in_baseline
    if names:
        more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        print(f"Only in the baseline, because models can't hold it: {printable(', '.join(names[:SHOWN]))}{more}.")
    for file in adopted.files:
        print(f"Wrote {os.path.relpath(file)}")


def _record(project: "Project", adopted: "Adopted", arguments: argparse.Namespace) -> None:
    from alembic import command

    from safe_migrations.adopt import adoption
    from safe_migrations.adopt.proof import refuse_difference
    from safe_migrations.postgres.connection import run_async
    from safe_migrations.prompt import confirm

    table, heads = project.service.version_table, " and ".join(adopted.heads)
    confirm(
        f"The table {table} of the database {project.database.name!r} gets the revision {heads}, and is created if it "
        "does not exist. Nothing else is changed.",
        "Record the revision",
        yes=arguments.yes,
        how="--yes:\nsafe-migrations adopt --yes",
    )
    now = run_async(adoption.read(project, arguments.schema))
    refuse_difference(adopted.existing.dump, now.dump, "the database now")
    command.stamp(config_of(arguments), list(adopted.heads))
    print(f"The database {project.database.name!r} is at revision {heads}. To see its state:\nsafe-migrations state")
