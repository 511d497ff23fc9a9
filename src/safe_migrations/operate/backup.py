"""Back up a database into a file, and restore the file into a new database, with PostgreSQL's own programs."""

import os
import shlex
import tempfile
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from safe_migrations.errors import BackupError, LockedError, MigrationError
from safe_migrations.postgres.connection import major_version, with_connection
from safe_migrations.postgres.creation import create_database, drop_database
from safe_migrations.postgres.database import Database
from safe_migrations.postgres.program_runs import problem_of, run_program
from safe_migrations.postgres.programs import Tool, find_tools
from safe_migrations.postgres.server_errors import reason, sqlstate

LOCK_TIMEOUT = 30.0  # seconds; how long pg_dump waits for a table lock, and blocks the sessions behind it


async def backup(database: Database, file: Path) -> None:
    """Write a database into a new file, readable by its owner only, as `pg_dump -Fc` does.

    The file appears under its name when it is complete. Roles, and the settings and privileges of the database
    itself, are not in it: see https://www.postgresql.org/docs/current/app-pgdump.html

    Args:
        database: with a user who may read all tables.

    Raises:
        ConnectionFailedError: PostgreSQL can't be reached, or refuses the user, the password or the database.
        BackupError: the file exists, or can't be written; there is no suitable pg_dump, or it failed.
        LockedError: another session locked a table for too long.
    """
    _check_target(file)
    pg_dump = find_tools("pg_dump", await with_connection(database, major_version))[0]
    pg_restore = find_tools("pg_restore", pg_dump.version)[0]
    try:
        descriptor, name = tempfile.mkstemp(prefix=".backup-", dir=file.parent)  # O_EXCL, and mode 0600
        os.close(descriptor)
        temporary = Path(name)
        try:
            await _dump(pg_dump, database, temporary)
            await _read_back(pg_restore, temporary)
            _publish(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError as error:
        raise BackupError(_exists(file)) from error
    except OSError as error:
        raise BackupError(
            f"No backup was made: {file} could not be written ({error.strerror}). A backup needs a folder in which "
            "this user may create files."
        ) from error


async def restore(server: Database, file: Path, name: str, *, owners: bool = True) -> None:
    """Fill a new database with a backup; if that fails, the new database is dropped again.

    See https://www.postgresql.org/docs/current/app-pgrestore.html

    Args:
        server: any database of the server, with a user who may create databases.
        owners: give everything its owner and privileges of the backup, whose roles must exist; else it is the user's.

    Raises:
        ConnectionFailedError: PostgreSQL can't be reached, or refuses the user, the password or the database.
        BackupError: the file is not a backup, or the database exists; there is no suitable pg_restore, or it failed.
    """
    if not os.path.exists(file):
        raise BackupError(f"{file} does not exist. Name a file that `safe-migrations backup` has written.")
    server_version = await with_connection(server, major_version)
    pg_restore = await _find_reader(find_tools("pg_restore", server_version), file)
    await _create(server, file, name)
    problem: str | None = "interrupted"
    try:
        problem = await _fill(pg_restore, server.named(name), file, server_version, owners=owners)
    finally:
        left = await _drop(server, name) if problem else ""
    if problem:
        raise BackupError(
            f"{file} was not restored: pg_restore failed ({problem}). {left} Correct the cause, then run the same "
            "command again."
        )


def _check_target(file: Path) -> None:
    if os.path.lexists(file):
        raise BackupError(_exists(file))
    if not file.parent.is_dir():
        raise BackupError(
            f"The folder of {file} does not exist. Create the folder, then run the same command again:\n"
            f"mkdir -p {shlex.quote(str(file.parent))}"
        )


def _exists(file: Path) -> str:
    return f"{file} already exists, and a backup overwrites no file. Name another file, or move that file away."


async def _dump(pg_dump: Tool, database: Database, file: Path) -> None:
    def progress() -> str:
        return f", {file.stat().st_size / 1e6:.1f} MB"

    wait = f"--lock-wait-timeout={LOCK_TIMEOUT * 1000:.0f}"
    arguments = ("--format=custom", f"--file={file}", "--no-password", wait)
    problem = problem_of("pg_dump", *await run_program(pg_dump, *arguments, database=database, progress=progress))
    if problem is None:
        return
    if "statement timeout" in problem:  # so pg_dump implements its --lock-wait-timeout
        raise LockedError(
            f"No backup was made: another session locked a table of {database.name!r} for longer than "
            f"{LOCK_TIMEOUT:g} s. Find the blocking session, then run the same command again:\nsafe-migrations locks"
        )
    if "permission denied" in problem:
        raise BackupError(
            f"No backup was made: the user {database.url.username!r} may not read every table ({problem}). Grant "
            f"pg_read_all_data to this user, or back up as the owner of the tables ({database.service.migration_url})."
        )
    raise BackupError(
        f"No backup was made: pg_dump failed ({problem}). Correct the cause, then run the same command again."
    )


async def _read_back(pg_restore: Tool, file: Path) -> None:
    # pg_dump ends with 0 without the last page if the disk becomes full there; --list reads the beginning only.
    arguments = (f"--file={os.devnull}", str(file))
    if problem := problem_of("pg_restore", *await run_program(pg_restore, *arguments, progress=lambda: ", read back")):
        raise BackupError(
            f"No backup was made: pg_restore can't read the file that pg_dump wrote ({problem}). Free disk space, then "
            "run the same command again."
        )


async def _find_reader(tools: list[Tool], file: Path) -> Tool:
    problem = None
    for tool in tools:  # an older pg_restore can't read the file of a newer pg_dump
        problem = problem_of("pg_restore", *await run_program(tool, "--list", str(file.absolute())))
        if problem is None:
            return tool
    raise BackupError(
        f"pg_restore {tools[-1].version} can't read {file} ({problem}). Name a file that `safe-migrations backup` has "
        "written. If this backup comes from a newer PostgreSQL, install the postgresql-client of that version."
    )


def _publish(temporary: Path, file: Path) -> None:
    _sync(temporary)
    try:
        os.link(temporary, file)
    except FileExistsError:
        raise
    except OSError:  # a filesystem without hard links: create the name first, because a rename would overwrite a file
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            temporary.replace(file)
        except OSError:
            file.unlink()
            raise
    if os.name == "posix":  # Windows can't open a folder
        _sync(file.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _create(database: Database, file: Path, name: str) -> None:
    try:
        await create_database(database, name, template="template0")
    except DBAPIError as error:
        if sqlstate(error) == "42P04":
            raise BackupError(
                f"The database {name!r} already exists, and a backup is only restored into a new database. Name "
                "another database, or drop that database first."
            ) from error
        raise BackupError(
            f"{file} was not restored: the database {name!r} could not be created ({reason(error)}). Correct the "
            "cause (the user needs CREATEDB), then run the same command again."
        ) from error


async def _fill(pg_restore: Tool, database: Database, file: Path, server_version: int, *, owners: bool) -> str | None:
    # pg_restore sets transaction_timeout since version 17. On an older server this fails, and has to be the only error.
    tolerant = pg_restore.version >= 17 > server_version
    # Not in a single transaction: one for thousands of tables needs more locks than a server has by default.
    arguments = () if tolerant else ("--exit-on-error",)
    rights = () if owners else ("--no-owner", "--no-privileges")
    into = ("--no-password", "--dbname=")  # PGDATABASE, because a name with "=" would be read as connection parameters
    status, errors = await run_program(
        pg_restore, *arguments, *rights, *into, str(file.absolute()), database=database, progress=str
    )
    only = "errors ignored on restore: 1\n" in errors and "\nCommand was: SET transaction_timeout = 0;\n" in errors
    return None if tolerant and only else problem_of("pg_restore", status, errors)


async def _drop(database: Database, name: str) -> str:
    try:
        await drop_database(database, name)
    except (MigrationError, DBAPIError, OSError):
        return f"The incomplete database {name!r} could not be dropped. Drop this database by hand."
    return f"The incomplete database {name!r} was dropped."
