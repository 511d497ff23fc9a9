"""The entry point: every Alembic command that runs `env.py` calls `run`.

An upgrade or a downgrade reads the state, takes the lock, reads the state again and refuses what is unsafe, applies
each revision in its own transaction, reads the result back on a new connection, and releases the lock.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from alembic import context
from alembic.runtime.migration import RevisionStep
from alembic.util import CommandError
from sqlalchemy import Connection, func, text
from sqlalchemy.exc import SAWarning, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from safe_migrations import ddl as _operations  # noqa: F401  # revision files use its operations
from safe_migrations.ddl.step_records import StepRecords
from safe_migrations.ddl.steps import no_steps_between
from safe_migrations.errors import LockedError, MigrationError, RefusedError
from safe_migrations.logs import quiet
from safe_migrations.postgres.advisory_lock import acquire, advisory_lock, release
from safe_migrations.postgres.connection import connected, run_async, session_pid
from safe_migrations.postgres.database import Database
from safe_migrations.postgres.server_errors import explained, pooler_refused
from safe_migrations.postgres.timeouts import load_timeouts
from safe_migrations.service import Service
from safe_migrations.upgrade.executor import Executor, run_migrations
from safe_migrations.upgrade.explanations import explain_state, refuse_unsafe
from safe_migrations.upgrade.loading import load_revisions
from safe_migrations.upgrade.offline import run_offline
from safe_migrations.upgrade.project import Project
from safe_migrations.upgrade.request import Request
from safe_migrations.upgrade.running_command import reads_files_only, writes_revision
from safe_migrations.upgrade.states import AT_HEAD, EXIT_STATUS, State, read_state
from safe_migrations.upgrade.steps import record_steps, refuse_exit, refuse_unready

log = logging.getLogger(__name__)

# Loggers whose lines name each plug-in, and each sequence of a serial column, which is no difference.
_UNINFORMATIVE = ("alembic.runtime.plugins", "alembic.ddl.postgresql")
_SETTINGS = text("SELECT name, setting || unit AS value FROM pg_settings WHERE name = ANY(CAST(:names AS text[]))")


def run(project: Project) -> None:
    """Run the Alembic command that has loaded `env.py`.

    Raises:
        MigrationError: an error that a user can correct.
    """
    with _quiet_alembic():
        load_revisions(project.script)
        _run(project)


def _run(project: Project) -> None:
    service, options = project.service, project.options
    injected = context.config.attributes.get("connection")
    if context.is_offline_mode():
        run_offline(options, load_timeouts(service.variables).offline_settings())
    elif reads_files_only():
        run_offline(options, {})
    elif injected is not None:
        _run_injected(injected, service, options)
    else:
        run_async(_run_online(project.database, options))


@contextmanager
def _quiet_alembic() -> Iterator[None]:
    """Hide how Alembic reads a database and compares it, and what `revision` reports in lines of its own."""
    logger = logging.getLogger("alembic.runtime.migration")
    logger.addFilter(_is_news)
    try:
        with ExitStack() as stack:
            for name in ("alembic",) if writes_revision() else _UNINFORMATIVE:
                stack.enter_context(quiet(name))
            yield
    finally:
        logger.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether Alembic reports more than that it reads a database."""
    return record.levelno > logging.INFO or str(record.msg).startswith("Running ")


def _run_injected(connection: Connection, service: Service, options: dict[str, Any]) -> None:
    """Run on the caller's connection, with the caller's timeouts; a transaction of the caller's is left open."""
    callers = connection.in_transaction()
    configuration = {"connection": connection, "transaction_of_caller": callers, **options}
    context.configure(**configuration)
    request = Request.of_alembic(service, options)
    if request is None:
        run_migrations(**configuration)
        return
    with _held(connection, request, callers):
        steps = request.plan(connection)
        if request.command == "downgrade":
            request.confirmed_plan(connection)
        records = StepRecords.read(connection, options)
        if request.command != "stamp":
            request.refuse_unprepared(connection, steps, callers)
            configuration["fn"] = lambda *_: _when_ready(connection, steps, records)
        if not callers:
            connection.rollback()  # or Alembic would take what reading has begun for the caller's
        run_migrations(**configuration)


@contextmanager
def _held(connection: Connection, request: "Request", callers: bool) -> Iterator[None]:
    """Hold both locks: until the caller's transaction ends, or else until the work here is done."""
    keys = [request.lock_key(purpose) for purpose in ("run", "apply")]
    take = func.pg_try_advisory_xact_lock if callers else func.pg_try_advisory_lock
    for key in keys:
        acquire(connection, key, load_timeouts().lock_wait, take)
    try:
        yield
    finally:
        if not callers:
            with suppress(SQLAlchemyError):  # a lost connection has released its locks
                connection.rollback()
                for key in keys:
                    release(connection, key)
                connection.rollback()


async def _run_online(database: Database, options: dict[str, Any]) -> None:
    service = database.service
    with explained(database):
        async with connected(database, database.timeouts.lock_wait) as connection:
            await connection.run_sync(lambda connection: context.configure(connection=connection, **options))
            request = await connection.run_sync(lambda _: Request.of_alembic(service, options))
            if request is None:
                await connection.run_sync(_read, service, options)
            else:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                await _migrate(request, connection, database)


def _read(connection: Connection, service: Service, options: dict[str, Any]) -> None:
    """Run a command that changes nothing in the database, such as `current` or `check`."""
    try:
        with warnings.catch_warnings():
            # Types of extensions, and PostgreSQL's own; this library compares them as PostgreSQL describes them.
            warnings.filterwarnings("ignore", "Did not recognize type", SAWarning)
            run_migrations(connection=connection, **options)
    except CommandError as error:
        state = read_state(connection, context.script, options)
        if state.unknown or "not up to date" in str(error):
            refuse_unsafe(state, service)
            behind, _ = explain_state(state, service)
            raise RefusedError(
                f"{behind} Nothing was changed. Models can only be compared with a database at head. Upgrade the "
                f"database first:\nalembic upgrade {state.target}",
                EXIT_STATUS[state.name],
            ) from error
        raise


async def _migrate(request: Request, control: AsyncConnection, database: Database) -> None:
    timeouts = database.timeouts
    before = await control.run_sync(request.read_state)
    if request.command == "upgrade" and before.name == AT_HEAD and not request.steps(before):
        log.info("The database is at head, revision %s; nothing to do.", before.revisions)
        return
    # Without the lock, so that an unanswered question does not block other processes.
    confirmed = await control.run_sync(request.confirmed_plan) if request.command == "downgrade" else None
    if confirmed == []:
        log.info("The database is at revision %s; nothing to do.", before.revisions)
        return
    await _refuse_pooler(control, database)
    async with advisory_lock(control, request.lock_key("run"), timeouts.lock_wait):
        if not await control.run_sync(request.plan, before) and request.command != "stamp":
            log.info("Another process has already applied these revisions; nothing to do.")
            return
        # A second connection only now, so that a process that waits for the lock needs one alone.
        async with connected(database, timeouts.lock_wait, bounded=False) as migration:
            # The server finishes the statement of a killed client, maybe a COMMIT, after the client's other connection
            # has released its lock. So the connection that applies the revisions has a lock of its own.
            await migration.run_sync(acquire, request.lock_key("apply"), timeouts.lock_wait)
            pid = await session_pid(migration)
            steps = await control.run_sync(request.plan, before)
            if confirmed is not None and confirmed != [step.revision for step in steps]:
                raise LockedError(
                    "Another process has migrated the database in the meantime. Nothing was changed. Run the same "
                    "command again."
                )
            if request.command == "stamp":
                await migration.run_sync(lambda stamped: run_migrations(connection=stamped, **request.options))
                await migration.commit()  # `alembic ensure_version` has no step, which would commit
                return
            await control.run_sync(request.refuse_unprepared, steps)
            await Executor(migration, pid, control, timeouts, request.service).apply(steps, request.options)
        async with connected(database, timeouts.lock_wait, isolation_level="AUTOCOMMIT") as fresh:
            _verify(steps, await fresh.run_sync(request.read_state), request.service)


async def _refuse_pooler(control: AsyncConnection, database: Database) -> None:
    """Refuse a pooler, which would keep the lock."""
    server_pid = await session_pid(control)
    requested = database.timeouts.session_settings()
    async with connected(database, database.timeouts.lock_wait) as other:
        actual = {row.name: row.value for row in await other.execute(_SETTINGS, {"names": list(requested)})}
        # This transaction is still open, so a pooler that assigns a server to each transaction assigns another one.
        if requested != actual or server_pid != await session_pid(control):
            raise pooler_refused(database.service, "a setting or the server process has changed")


def _when_ready(connection: Connection, steps: list[RevisionStep], records: StepRecords) -> Iterator[RevisionStep]:
    for step in steps:
        refuse_unready(connection, step, records)
        refuse_exit(step)
        record_steps(step, records, no_steps_between)
        yield step


def _verify(steps: list[RevisionStep], state: State, service: Service) -> None:
    """Compare the state that a new connection reads with the steps."""
    if not steps:
        return
    if steps[-1].is_upgrade == (steps[-1].revision.revision not in state.current):
        raise MigrationError(
            f"The migration ran, but the database {state.database!r} is at revision {state.revisions}. Check the "
            "database before you run another command:\nsafe-migrations state"
        )
    if state.invalid:
        invalid, repair = explain_state(state, service)
        raise RefusedError(f"All revisions were applied. {invalid} {repair}", EXIT_STATUS[state.name])
