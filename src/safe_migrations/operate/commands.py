"""The operator's commands: state, wait, locks, backup, restore, rehearse, deploy, backfill."""

import argparse
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from safe_migrations import logs
from safe_migrations.command_line import JSON, YES, Commands, at_least, project_of, service_of
from safe_migrations.errors import MigrationError, runnable

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from safe_migrations.backfill.running import Done
    from safe_migrations.operate.rehearse import Rehearsed
    from safe_migrations.upgrade.project import Project

Result = TypeVar("Result")

NO_LOCKS = "No session is waiting for a lock or idle in transaction."


def register(commands: Commands) -> None:
    """Register the commands of this room."""
    _register_state(commands)
    timeout = "how long to wait, in seconds (default: 300); 0 asks once"
    commands.add(
        "wait",
        wait,
        "wait until the database is ready for this code",
        ("--timeout", {"type": at_least(0, _seconds), "default": 300.0, "metavar": "SECONDS", "help": timeout}),
    )
    pid = (
        "--terminate",
        {"type": int, "metavar": "PID", "help": "end the session with this pid, after a confirmation"},
    )
    commands.add("locks", show_locks, "show which session blocks which, as a tree", JSON, pid, YES)
    file = ("file", {"type": Path, "nargs": "?", "help": "default: DATABASE_TIME.dump in this folder"})
    commands.add("backup", make_backup, "write a verified backup of the database, readable by its owner only", file)
    file = ("file", {"type": Path, "help": "the backup to restore"})
    commands.add("restore", restore_backup, "restore a backup into a new database", file)
    commands.add("rehearse", rehearse, "run the pending revisions on a copy of the database", JSON)
    _register_deploy(commands)
    _register_backfill(commands)


def _register_state(commands: Commands) -> None:
    parser = commands.add("state", state, "show the state of the database, and what to do next")
    quick = "print only whether the database is at head, in a tenth of a second"
    json_or_quick = parser.add_mutually_exclusive_group()
    for option, settings in (JSON, ("--quick", {"action": "store_true", "help": quick})):
        json_or_quick.add_argument(option, **settings)


def _register_deploy(commands: Commands) -> None:
    contract = "run contract revisions as well: the new code runs everywhere"
    commands.add(
        "deploy",
        deploy,
        "check the state, back up, upgrade up to the first contract revision, verify",
        ("--contract", {"action": "store_true", "help": contract}),
        ("--without-backup", {"action": "store_true", "help": "make no backup"}),
    )


def _register_backfill(commands: Commands) -> None:
    name = "name of the backfill's file; by default, all incomplete backfills in order"
    workers = "number of batches to run at the same time (default: 1)"
    nice_ratio = "pause after each batch, as a multiple of its duration (default: 1)"
    max_lag = "pause while the replication lag is above this number of seconds (default: 10)"
    commands.add(
        "backfill",
        run_backfills,
        "run a backfill, or all incomplete backfills",
        ("name", {"nargs": "?", "help": name}),
        ("--workers", {"type": at_least(1, int), "default": 1, "help": workers}),
        ("--nice-ratio", {"type": at_least(0, float), "default": 1.0, "help": nice_ratio}),
        ("--max-lag", {"type": at_least(0, float), "default": 10.0, "help": max_lag}),
        JSON,
    )


def state(arguments: argparse.Namespace) -> int:
    """Show the state of the database; the exit status is the state's."""
    if arguments.quick:
        from safe_migrations import probe  # imports none of the slow libraries

        return probe.run(service_of(arguments))
    from alembic.util import CommandError

    from safe_migrations.operate import status
    from safe_migrations.revisions import COULD_NOT_TELL

    try:
        report = status.read_report(project_of(arguments))
    except (MigrationError, CommandError) as error:
        if not arguments.json:
            raise
        print(status.Report(COULD_NOT_TELL, next=str(error)).as_json())
        return getattr(error, "exit_status", MigrationError.exit_status)
    with_commands = replace(report, next=runnable(report.next))
    print(with_commands.as_json() if arguments.json else runnable(report.as_text()))
    return report.exit_status


def wait(arguments: argparse.Namespace) -> int:
    """Wait until the database is at this code's revision or newer, or only contract revisions are pending."""
    from safe_migrations import probe  # imports none of the slow libraries

    for number in (signal.SIGINT, signal.SIGTERM):  # ends at once, even while a thread resolves a name
        signal.signal(number, lambda *_: os._exit(130))
    service = service_of(arguments)
    logs.use_format(service.variables)
    logs.write(probe.wait(service, arguments.timeout, lambda text: logs.write(text, sys.stderr)))
    return 0


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def show_locks(arguments: argparse.Namespace) -> int:
    """Show which session blocks which, or end a session."""
    from safe_migrations.operate import sessions

    project, pid = project_of(arguments), arguments.terminate
    if pid is not None:
        print(_on_database(project, lambda connection: sessions.terminate(connection, pid, yes=arguments.yes)))
        return 0
    trees = _on_database(project, sessions.lock_trees)
    if arguments.json:
        print(json.dumps([asdict(tree) for tree in trees], indent=2))
    else:
        print("\n".join(line for tree in trees for line in tree.lines()) or NO_LOCKS)
    return 0


def make_backup(arguments: argparse.Namespace) -> int:
    """Write a backup."""
    from safe_migrations.operate.backup import backup
    from safe_migrations.postgres.connection import run_async

    project = project_of(arguments)
    file = arguments.file or _backup_file(project)
    run_async(backup(project.database, file))
    print(f"The backup is {file}.")
    restore = shlex.join(["safe-migrations", "restore", str(file)])
    print(runnable(f"To restore the backup into a new database:\n{restore}"))
    return 0


def restore_backup(arguments: argparse.Namespace) -> int:
    """Restore a backup into a new database."""
    from safe_migrations.operate.backup import restore
    from safe_migrations.postgres.connection import run_async

    project = project_of(arguments)
    name = f"{project.database.name[:40]}_{datetime.now(UTC):%Y%m%d_%H%M%S_%f}"
    run_async(restore(project.database, arguments.file, name))
    print(name)
    message = f"The backup was restored into the new database {name}. To use this database, write its name into "
    logs.write(f"{message}{_variables_of_name(project)}.", sys.stderr)
    return 0


def rehearse(arguments: argparse.Namespace) -> int:
    """Run the pending revisions on a copy of the database."""
    from safe_migrations.operate import rehearsal_table
    from safe_migrations.operate import rehearse as rehearsal
    from safe_migrations.postgres.connection import run_async

    project = project_of(arguments)
    revisions = rehearsal.pending_revisions(project)
    rehearsed: list[Rehearsed] = []
    try:
        if revisions:
            run_async(rehearsal.rehearse(project, revisions, rehearsed))
    finally:
        if arguments.json:
            print(json.dumps([asdict(result) for result in rehearsed], indent=2))
        elif rehearsed:
            print(rehearsal_table.as_text(rehearsed, sys.stdout.encoding))
        elif not revisions:
            print("No revision is pending; nothing to rehearse.")
    return 0


def deploy(arguments: argparse.Namespace) -> int:
    """Check the state, back up, upgrade, verify."""
    from safe_migrations.operate import deploy as deployment

    project = project_of(arguments)
    file = None if arguments.without_backup else _backup_file(project)
    after = deployment.deploy(project, file, lambda text: logs.write(runnable(text)), contract=arguments.contract)
    return 0 if deployment.waits_for_code(after) else after.exit_status


def run_backfills(arguments: argparse.Namespace) -> int:
    """Run one backfill, or all incomplete backfills."""
    from safe_migrations.backfill.definition import NothingThereError, backfill_names, load_backfill
    from safe_migrations.backfill.running import Pace, run_backfill
    from safe_migrations.postgres.connection import run_async

    project = project_of(arguments)
    folder = project.backfills
    names = [arguments.name] if arguments.name else backfill_names(folder)
    definitions = {name: load_backfill(folder, name) for name in names}
    pace = Pace(arguments.workers, arguments.nice_ratio, arguments.max_lag)
    runs: list[Done] = []
    try:
        for name, definition in definitions.items():
            try:
                runs.append(run_async(run_backfill(project.database, folder, name, definition, pace)))
            except NothingThereError as error:
                if arguments.name:
                    raise
                logs.write(f"Skipped: {error}", sys.stderr, backfill=name)  # a later revision has dropped its column
                continue
            if not arguments.json and (arguments.name or not runs[-1].already_complete):
                logs.write(str(runs[-1]), backfill=name, rows=runs[-1].rows, seconds=runs[-1].seconds)
    finally:
        if arguments.json:
            print(json.dumps([asdict(result) for result in runs], indent=2))
    complete = [result for result in runs if result.already_complete and not arguments.name]
    if not arguments.json and (complete or not names):
        logs.write(_complete_in_one_line(complete) if names else f"There is no backfill in {os.path.relpath(folder)}.")
    return 0


def _complete_in_one_line(runs: "list[Done]") -> str:
    """Backfills without work in one line: each old backfill would be a line in every run."""
    return str(runs[0]) if len(runs) == 1 else f"{len(runs)} backfills were already complete."


def _backup_file(project: "Project") -> Path:
    return Path(f"{project.database.name}_{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.dump")  # free in a second deploy


def _variables_of_name(project: "Project") -> str:
    """The variables that hold the name of the database."""
    service = project.service
    if not service.env_prefix:
        return service.settings
    urls = [service.variable(name) for name in ("DATABASE_URL", "MIGRATION_DATABASE_URL")]
    configured = [variable for variable in urls if service.variables.get(variable)]
    return " and ".join(configured if urls[0] in configured else [service.variable("DB_NAME"), *configured])


def _on_database(project: "Project", function: "Callable[[Connection], Result]") -> Result:
    """Call a function with a connection to the database, in AUTOCOMMIT."""
    from safe_migrations.postgres.connection import run_async, with_connection
    from safe_migrations.postgres.server_errors import explained

    with explained(project.database):
        return run_async(with_connection(project.database, function))
