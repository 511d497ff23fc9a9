"""`python -m safe_migrations …`, from the service's folder: parse, call, print."""

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

import config
from safe_migrations import backup, deployment, development, locks, rehearsal, report
from safe_migrations.connection import connected, explain, run_async
from safe_migrations.errors import INTERRUPTED, MigrationError, RefusedError
from safe_migrations.state import AT_HEAD, BEHIND, DRIFT, FRESH

Result = TypeVar("Result")

ALEMBIC_INI = config.SERVICE_FOLDER / "alembic.ini"
YES = ("--yes", {"action": "store_true", "help": "agree to what would be asked"})
NOBODY = "Nobody waits for a lock, and nobody has left a transaction open."
JSON = ("--json", {"action": "store_true", "help": "print JSON, for machines"})


def main() -> None:
    """Run one command, and end with its exit status (2 for wrong usage)."""
    arguments = _parser().parse_args()
    # As Ctrl-C, which asyncio knows how to handle: a job that is cancelled leaves no copy of a database behind.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        sys.exit(arguments.function(arguments))
    except MigrationError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
    except CommandError as error:  # Alembic's own, such as revisions that can't be read
        sys.exit(str(error))
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m safe_migrations")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, function: Callable[[argparse.Namespace], int], help: str, *options: tuple[str, Any]) -> None:
        command = commands.add_parser(name, help=help, description=help)
        command.set_defaults(function=function)
        for option, settings in options:
            command.add_argument(option, **settings)

    file = ("file", {"type": Path, "help": "the backup"})
    optional_file = ("file", {"type": Path, "nargs": "?", "help": "by default DATABASE_TIME.dump in this folder"})
    quick = ("--quick", {"action": "store_true", "help": "at head or not, in a tenth of a second; alone"})
    pid = ("--terminate", {"type": int, "metavar": "PID", "help": "end the session with this pid, after asking"})
    no_backup = ("--without-backup", {"action": "store_true", "help": "make no backup"})
    add("state", state, "tell the database's state, and what to do next", JSON, quick)
    add("locks", show_locks, "show who blocks whom, as a tree", JSON, pid, YES)
    add("backup", make_backup, "write a backup of the database, checked, for its owner's eyes only", optional_file)
    add("restore", restore_backup, "restore a backup into a new database", file)
    add("rehearse", rehearse, "run the pending revisions on a copy of the database", JSON)
    add("deploy", deploy, "state, backup, upgrade, verification", no_backup)
    add("db-up", db_up, "start the embedded development PostgreSQL and create the database")
    add("db-down", db_down, "stop the embedded development PostgreSQL; its data stays")
    add("db-shell", db_shell, "open psql on the configured database")
    return parser


def state(arguments: argparse.Namespace) -> int:
    """Tell the database's state; the exit status tells it too."""
    if arguments.quick:  # alone it does not come here
        print("state: --quick goes alone", file=sys.stderr)
        return 2
    try:
        found = report.read_report(_alembic(), config.ENV_PREFIX)
    except (MigrationError, CommandError) as error:
        if not arguments.json:
            raise
        found = report.Report(report.COULD_NOT_TELL, next=str(error))
    print(found.as_json() if arguments.json else found.as_text())
    return found.exit_status


def show_locks(arguments: argparse.Namespace) -> int:
    """Show who blocks whom, or end one session."""
    if arguments.terminate is not None:
        print(_on_database(lambda connection: locks.terminate(connection, arguments.terminate, yes=arguments.yes)))
        return 0
    trees = _on_database(locks.lock_trees)
    if arguments.json:
        print(json.dumps([asdict(tree) for tree in trees], indent=2, ensure_ascii=False))
    else:
        print(
            "\n".join(line for tree in trees for line in tree.lines())
            or "Nobody waits for a lock, and nobody has left a transaction open."
        )
    return 0


def make_backup(arguments: argparse.Namespace) -> int:
    """Write a backup."""
    url, file = config.load_settings().migration_database_url, arguments.file or _backup_file()
    run_async(backup.backup(url, config.ENV_PREFIX, file))
    print(f"The backup is {file}.")
    print(f"To restore it into a new database: python -m safe_migrations restore {shlex.quote(str(file))}")
    return 0


def restore_backup(arguments: argparse.Namespace) -> int:
    """Restore a backup into a new database."""
    settings = config.load_settings()
    url, prefix = settings.migration_database_url, config.ENV_PREFIX
    name = f"{(url.database or '')[:40]}_{datetime.now(UTC):%Y%m%d_%H%M%S}"
    run_async(backup.restore(url, config.ENV_PREFIX, arguments.file, name))
    print(name)
    variables = [f"{prefix}_DATABASE_URL" if settings.url else f"{prefix}_DB_NAME"]
    if settings.migration_url:
        variables.append(f"{prefix}_MIGRATION_DATABASE_URL")
    message = f"The backup is in the new database {name}; nothing else has changed. To use it, put its name into "
    print(f"{message}{' and '.join(variables)}.", file=sys.stderr)
    return 0


def rehearse(arguments: argparse.Namespace) -> int:
    """Run the pending revisions on a copy of the database."""
    found = report.read_report(_alembic(), config.ENV_PREFIX)
    if found.state not in (FRESH, BEHIND, AT_HEAD, DRIFT):
        raise RefusedError(f"{found.found} {found.next}", found.exit_status)
    settings = config.load_settings()
    url, server = settings.migration_database_url, settings.rehearsal_database_url
    revisions = [str(each["revision"]) for each in found.pending]
    done: list[rehearsal.Rehearsed] = []
    try:
        if revisions:
            run_async(rehearsal.rehearse(ALEMBIC_INI, revisions, url, server, config.ENV_PREFIX, done))
    finally:
        if arguments.json:
            print(json.dumps([asdict(each) for each in done], indent=2))
        elif done:
            print(_table(("revision", "time", "locks", "rewritten", "rows"), [_cells(each) for each in done]))
            print("time: without anybody else; locks: the strongest on each table; rows: of those tables")
        elif not revisions:
            print("No revision is pending: there is nothing to rehearse.")
    return 0


def deploy(arguments: argparse.Namespace) -> int:
    """State, backup, upgrade, verification."""
    file = None if arguments.without_backup else _backup_file()
    url = config.load_settings().migration_database_url
    return deployment.deploy(_alembic(), url, config.ENV_PREFIX, file, lambda text: print(text, flush=True)).exit_status


def db_up(_arguments: argparse.Namespace) -> int:
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


def db_down(_arguments: argparse.Namespace) -> int:
    """Stop the development database."""
    cluster = development.development_cluster(config.SERVICE_FOLDER, config.POSTGRES_VERSION)
    print("PostgreSQL is stopped." if cluster.stop() else "PostgreSQL was not running.")
    print(f"Its data stays in {cluster.folder / 'data'}; remove that folder to begin anew.")
    return 0


def db_shell(_arguments: argparse.Namespace) -> NoReturn:
    """Open psql on the configured database."""
    cluster = development.development_cluster(config.SERVICE_FOLDER, config.POSTGRES_VERSION)
    development.shell(config.load_settings().database_url, cluster.programs)


def _alembic() -> Config:
    """Alembic's configuration; with arguments, as on its command line, so that env.py sets up the logging."""
    return Config(ALEMBIC_INI, cmd_opts=argparse.Namespace(x=None))


def _backup_file() -> Path:
    return Path(f"{config.load_settings().migration_database_url.database}_{datetime.now(UTC):%Y%m%dT%H%M%SZ}.dump")


def _on_database(function: Callable[[Connection], Result]) -> Result:
    """Call a function with a connection to the database, in AUTOCOMMIT."""
    url = config.load_settings().migration_database_url

    async def call() -> Result:
        async with connected(url, config.ENV_PREFIX, isolation_level="AUTOCOMMIT") as connection:
            return await connection.run_sync(function)

    try:
        return run_async(call())
    except DBAPIError as error:
        raise MigrationError(explain(error, url, config.ENV_PREFIX)) from error


def _cells(rehearsed: rehearsal.Rehearsed) -> tuple[str, ...]:
    locks = "; ".join(f"{table}: {modes[-1]}" for table, modes in rehearsed.locks.items())
    rows = "; ".join(f"{table}: {count:,}" for table, count in rehearsed.rows.items())
    return (
        rehearsed.revision,
        f"{rehearsed.seconds:.2f} s",
        locks or "-",
        ", ".join(rehearsed.rewritten) or "-",
        rows or "-",
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
