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
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

import config
from safe_migrations.backfill.definition import NothingThereError, backfill_names, load_backfill
from safe_migrations.dev import database as development
from safe_migrations.errors import INTERRUPTED, ConfigurationError, MigrationError, RefusedError
from safe_migrations.operate import backup
from safe_migrations.operate import deploy as deployment
from safe_migrations.operate import sessions as locks
from safe_migrations.operate import status as report
from safe_migrations.postgres.connection import connected, explain, run_async
from safe_migrations.upgrade.states import AT_HEAD, BEHIND, DRIFT, FRESH, load_revisions

if TYPE_CHECKING:
    from safe_migrations.operate.rehearse import Rehearsed

Result = TypeVar("Result")
Number = TypeVar("Number", int, float)

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
    others = "template-check and template-update, which need no settings: see the --help of each"
    parser = argparse.ArgumentParser(prog="python -m safe_migrations", epilog=others)
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
    contract = ("--contract", {"action": "store_true", "help": "the new code runs everywhere: go on"})
    name = ("name", {"nargs": "?", "help": "of its file; by default all that are not complete, in order"})
    pace = (
        ("--workers", {"type": _at_least(1, int), "default": 1, "help": "how many batches at the same time (1)"}),
        (
            "--nice-ratio",
            {"type": _at_least(0, float), "default": 1.0, "help": "pause after a batch, in times of what it took (1)"},
        ),
        (
            "--max-lag",
            {"type": _at_least(0, float), "default": 10.0, "help": "wait while a standby is more seconds behind (10)"},
        ),
    )
    of_revisions = ("range", {"nargs": "?", "help": "A:B or one revision; by default those not on the main branch"})
    github = ("--github", {"action": "store_true", "help": "print annotations of GitHub Actions"})
    branch = ("revision", {"nargs": "?", "help": "the head to move; by default the one that is not on the main branch"})
    add("state", state, "tell the database's state, and what to do next", JSON, quick)
    add("preview", show_preview, "show what differs from the models, and the SQL of the revisions to write", JSON)
    add("lint", lint_revisions, "tell what would hurt when revisions run under traffic", of_revisions, JSON, github)
    add("locks", show_locks, "show who blocks whom, as a tree", JSON, pid, YES)
    add("backup", make_backup, "write a backup of the database, checked, for its owner's eyes only", optional_file)
    add("restore", restore_backup, "restore a backup into a new database", file)
    add("rehearse", rehearse, "run the pending revisions on a copy of the database", JSON)
    add("deploy", deploy, "state, backup, upgrade up to the first contract revision, verification", contract, no_backup)
    add("backfill", run_backfills, "run a backfill of alembic/backfills, or all", name, *pace, JSON)
    add("rebase", move_branch, "move the unapplied revisions of a branch behind the other head", branch)
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


def show_preview(arguments: argparse.Namespace) -> int:
    """Show what `revision --autogenerate` would write."""
    from safe_migrations.autogenerate import preview

    found = preview.read_preview(_alembic(), config.ENV_PREFIX)
    if arguments.json:
        print(json.dumps([asdict(each) for each in found], indent=2, ensure_ascii=False))
    else:
        nothing = "-- The models and the database agree: there is nothing to migrate."
        print("\n\n".join(each.as_text() for each in found) or nothing)
    return 0


def lint_revisions(arguments: argparse.Namespace) -> int:
    """Tell what would hurt when revisions run under traffic."""
    from safe_migrations.lint import check as lint  # takes its time to import, as below
    from safe_migrations.lint import findings

    if arguments.json and arguments.github:
        print("lint: --json or --github, not both", file=sys.stderr)
        return 2
    script_directory = ScriptDirectory.from_config(_alembic())
    load_revisions(script_directory)
    try:
        scripts = lint.find_scripts(script_directory, arguments.range)
    except CommandError as error:
        print(f"lint: {error}", file=sys.stderr)
        return 2
    found = lint.lint(script_directory, scripts, config.POSTGRES_VERSION)
    if arguments.json:
        print(findings.as_json(found))
    elif arguments.github:
        print("\n".join(findings.as_github(found)), end="\n" if found else "")
    else:
        print(findings.as_text(found, [Path(script.path) for script in scripts]))
    return 1 if found else 0


def show_locks(arguments: argparse.Namespace) -> int:
    """Show who blocks whom, or end one session."""
    if arguments.terminate is not None:
        print(_on_database(lambda connection: locks.terminate(connection, arguments.terminate, yes=arguments.yes)))
        return 0
    trees = _on_database(locks.lock_trees)
    if arguments.json:
        print(json.dumps([asdict(tree) for tree in trees], indent=2, ensure_ascii=False))
    else:
        print("\n".join(line for tree in trees for line in tree.lines()) or NOBODY)
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
    from safe_migrations.operate import rehearse as rehearsal

    found = report.read_report(_alembic(), config.ENV_PREFIX)
    if found.state not in (FRESH, BEHIND, AT_HEAD, DRIFT):
        raise RefusedError(f"{found.found} {found.next}", found.exit_status)
    settings = config.load_settings()
    url, server = settings.migration_database_url, settings.rehearsal_database_url
    revisions = [str(each["revision"]) for each in found.pending]
    done: list[Rehearsed] = []
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
    after = deployment.deploy(
        _alembic(),
        url,
        config.ENV_PREFIX,
        file,
        lambda text: print(text, flush=True),
        contract=arguments.contract,
    )
    return 0 if deployment.waits_for_code(after) else after.exit_status


def run_backfills(arguments: argparse.Namespace) -> int:
    """Run one backfill, or all that are not complete."""
    from safe_migrations.backfill import running as backfill

    folder = config.SERVICE_FOLDER / "alembic" / "backfills"
    names = [arguments.name] if arguments.name else backfill_names(folder)
    definitions = {name: load_backfill(folder, name) for name in names}
    url = config.load_settings().migration_database_url
    pace = backfill.Pace(arguments.workers, arguments.nice_ratio, arguments.max_lag)
    done = []
    try:
        for name, definition in definitions.items():
            try:
                done.append(run_async(backfill.run_backfill(url, config.ENV_PREFIX, folder, name, definition, pace)))
            except NothingThereError as error:
                if arguments.name:
                    raise
                print(f"Left out: {error}", file=sys.stderr)  # the file of a column that is gone by now
                continue
            if not arguments.json:
                print(done[-1], flush=True)
    finally:
        if arguments.json:
            print(json.dumps([asdict(each) for each in done], indent=2))
    if not names and not arguments.json:
        print("There is no backfill in alembic/backfills.")
    return 0


def move_branch(arguments: argparse.Namespace) -> int:
    """Move the unapplied revisions of a branch behind the other head."""
    from safe_migrations.history import rebase

    script_directory = ScriptDirectory.from_config(_alembic())
    move = rebase.plan(script_directory, arguments.revision)
    if move is None:
        print(f"There is one head, and nothing to move; the file HEAD names it: {rebase.set_head(script_directory)}")
        return 0
    try:
        settings = config.load_settings()
        urls = dict.fromkeys([settings.migration_database_url, settings.database_url])
    except ConfigurationError as error:
        print(f"No database was asked whether it has these revisions: {error}")
        urls = {}
    for sentence in rebase.refuse_applied(script_directory, move, urls, config.ENV_PREFIX):
        print(sentence)
    names = rebase.carry_out(script_directory, move)
    print(f"From {move.ancestor} to {move.onto.revision}, {Path(move.onto.path).name}:")
    print("\n".join(f"  {before} is now {after}" for before, after in names))
    print("Next: pdm run migrate-upgrade, pdm run test, then git add --all alembic/versions")
    return 0


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


def _cells(rehearsed: "Rehearsed") -> tuple[str, ...]:
    locks = "; ".join(f"{table}: {modes[-1]}" for table, modes in rehearsed.locks.items())
    rows = "; ".join(f"{table}: {count:,}" for table, count in rehearsed.rows.items())
    return (
        rehearsed.revision,
        f"{rehearsed.seconds:.2f} s",
        locks or "-",
        ", ".join(rehearsed.rewritten) or "-",
        rows or "-",
    )


def _at_least(least: int, kind: Callable[[str], Number]) -> Callable[[str], Number]:
    """For argparse: a number, and no less."""

    def number(text: str) -> Number:
        value = kind(text)
        if not value >= least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return value

    return number


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
