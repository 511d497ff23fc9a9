"""The commands for many services: `safe-migrations fleet …`."""

import argparse
import os
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from safe_migrations.command_line import JSON, YES, Commands, Option, at_least
from safe_migrations.errors import runnable
from safe_migrations.fleet.services import Member, find_services

if TYPE_CHECKING:
    from safe_migrations.fleet.upgrades import Pass

JOBS_OF_DATABASES = 4  # services at the same time, whose databases may share one server and its connections
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
    _register_ports(fleet)
    _register_update(fleet)
    _register_upgrades(fleet)
    fleet.add(
        "reset",
        reset,
        "delete each development database, create it again, and upgrade it to head",
        *SELECTION,
        YES,
        _jobs(os.cpu_count() or 1),
    )
    _register_page(fleet)


def _register_ports(fleet: Commands) -> None:
    write = "write the table into this Markdown file, between its markers"
    fleet.add(
        "ports",
        ports,
        "show the databases, ports and variables of the services, and whether they differ",
        (
            "--check",
            {"action": "store_true", "help": "check whether the table in the file is current, and change nothing"},
        ),
        ("--write", {"type": Path, "metavar": "FILE", "help": write}),
    )


def _register_update(fleet: Commands) -> None:
    branch = "create this branch in each service that has an update, and commit the update to the branch"
    checks = "leave lint, type check and tests to the CI of the branch"
    fleet.add(
        "update",
        update,
        "update each service to the template's newest release, and check it",
        *SELECTION,
        ("--branch", {"metavar": "NAME", "help": branch}),
        ("--without-checks", {"action": "store_true", "help": checks}),
        _jobs(os.cpu_count() or 1),
    )


def _register_upgrades(fleet: Commands) -> None:
    stop = "--stop-at-first", {"action": "store_true", "help": "start no further service after the first failure"}
    contract = "then run contract revisions as well: the new code runs everywhere"
    common = (*SELECTION, _jobs(JOBS_OF_DATABASES), stop, YES)
    fleet.add("upgrade", upgrade, "upgrade each database to head", *common)
    fleet.add(
        "deploy",
        deploy,
        "deploy in each service, up to the first contract revision",
        ("--contract", {"action": "store_true", "help": contract}),
        ("--without-backup", {"action": "store_true", "help": "make no backups"}),
        *common,
    )
    fleet.add("backfill", backfill, "run the incomplete backfills of each service", *common)


def _jobs(default: int) -> Option:
    about = f"number of services to work on at the same time (default: {default})"
    return "--jobs", {"type": at_least(1, int), "default": default, "metavar": "N", "help": about}


def _register_page(fleet: Commands) -> None:
    fleet.add(
        "page",
        page,
        "write an HTML page with the state, the revisions and the schema of each service",
        ("file", {"type": Path, "metavar": "FILE", "help": "the page, which may exist"}),
        *SELECTION,
    )


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
    print(as_json(statuses) if arguments.json else status_table.as_text(statuses))
    return worst_status([status.exit_status for status in statuses])


def ports(arguments: argparse.Namespace) -> int:
    """Show or write the table of ports; a value that two services share is an error."""
    from safe_migrations.fleet import ports

    members = find_services(Path.cwd())
    problems = ports.problems(members)
    if arguments.write is None:
        print(ports.as_text(members))
    elif not ports.update_file(arguments.write, members, only_check=arguments.check) and arguments.check:
        command = shlex.join(["safe-migrations", "fleet", "ports", "--write", str(arguments.write)])
        problems.append(f"The table of ports in {arguments.write} is not current. To write it:\n{command}")
    for problem in problems:
        print(f"\n{runnable(problem)}", file=sys.stderr)
    return 1 if problems else 0


def update(arguments: argparse.Namespace) -> int:
    """Update each service to the template's newest release."""
    from safe_migrations.fleet import updates
    from safe_migrations.fleet.processes import Jobs

    return updates.run(selected(arguments), Jobs(arguments.jobs), arguments.branch, checks=not arguments.without_checks)


def upgrade(arguments: argparse.Namespace) -> int:
    """Upgrade each database to head."""
    from safe_migrations.fleet import upgrades

    return _run(arguments, upgrades.upgrade())


def deploy(arguments: argparse.Namespace) -> int:
    """Deploy in each service: expand everywhere before contract anywhere."""
    from safe_migrations.fleet import upgrades

    return _run(arguments, upgrades.deploy(contract=arguments.contract, without_backup=arguments.without_backup))


def backfill(arguments: argparse.Namespace) -> int:
    """Run the incomplete backfills of each service."""
    from safe_migrations.fleet import upgrades

    return _run(arguments, upgrades.backfill())


def _run(arguments: argparse.Namespace, passes: "list[Pass]") -> int:
    from safe_migrations.fleet.processes import Jobs
    from safe_migrations.fleet.upgrades import run

    jobs = Jobs(arguments.jobs, stop_at_first=arguments.stop_at_first)
    return run(selected(arguments), passes, jobs, yes=arguments.yes)


def reset(arguments: argparse.Namespace) -> int:
    """Delete each development database, create it again, and upgrade it to head."""
    from safe_migrations.fleet import reset as resetting
    from safe_migrations.fleet.processes import Jobs

    return resetting.run(selected(arguments), Jobs(arguments.jobs), yes=arguments.yes)


def page(arguments: argparse.Namespace) -> int:
    """Write the page of the fleet; the exit status is that of the worst service."""
    from safe_migrations.files import replace_files
    from safe_migrations.fleet.page import as_html, read_details, refuse_other_file
    from safe_migrations.fleet.processes import worst_status
    from safe_migrations.fleet.progress import progress
    from safe_migrations.fleet.status import read_statuses

    refuse_other_file(arguments.file)
    members = selected(arguments)
    with progress("Reading", 2 * len(members)) as ended:
        time = datetime.now(UTC)
        statuses = read_statuses(members, ended)
        details = read_details(statuses, ended)
    replace_files({arguments.file: as_html(statuses, details, time).encode()})
    print(f"The page is {arguments.file}.")
    return worst_status([status.exit_status for status in statuses])
