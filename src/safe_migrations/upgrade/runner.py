"""The one way in: every Alembic command that runs `env.py` passes through `run`.

An upgrade or a downgrade goes like this: read the state; take the lock; read the state again, and refuse what is
unsafe; apply each revision in its own transaction; read the result back on a new connection; release the lock.
"""

import logging
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from alembic import command, context
from alembic.runtime.migration import RevisionStep
from alembic.script import Script
from alembic.util import CommandError
from sqlalchemy import Connection, func, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from safe_migrations import ddl as _operations  # noqa: F401  # revision files use its operations
from safe_migrations.backfill.definition import required_backfills
from safe_migrations.errors import MigrationError, RefusedError
from safe_migrations.postgres.advisory_lock import acquire, advisory_lock, lock_key, release
from safe_migrations.postgres.connection import Database, connected, explain, pooler_refused, run_async
from safe_migrations.postgres.sql import ddl
from safe_migrations.postgres.timeouts import Policy, load_policy
from safe_migrations.service import Service
from safe_migrations.upgrade.data_loss import confirm_losses
from safe_migrations.upgrade.executor import Application, refuse_unready, run_migrations
from safe_migrations.upgrade.phases import refuse_unacknowledged
from safe_migrations.upgrade.project import Project
from safe_migrations.upgrade.states import (
    AT_HEAD,
    EXIT_STATUS,
    State,
    explain_state,
    load_revisions,
    read_state,
    refusal,
    refuse_unsafe,
)

log = logging.getLogger(__name__)

_PID = text("SELECT pg_backend_pid()")
_SETTINGS = text("SELECT name, setting || unit AS value FROM pg_settings WHERE name = ANY(CAST(:names AS text[]))")


def run(project: Project) -> None:
    """Run the Alembic command that has loaded `env.py`.

    Args:
        project: what `env.py` describes.

    Raises:
        MigrationError: something that a person can put right.
    """
    with _quiet_alembic():
        load_revisions(project.script)
        _run(project)


def _run(project: Project) -> None:
    service, options = project.service, project.options
    injected = context.config.attributes.get("connection")
    if context.is_offline_mode():
        _run_without_database(options, load_policy(service.variables).offline_settings())
    elif _reads_files_only():
        _run_without_database(options, {})
    elif injected is not None:
        _run_injected(injected, service, options)
    else:
        run_async(_run_online(project.database, options))


@contextmanager
def _quiet_alembic() -> Iterator[None]:
    """Let Alembic's logger leave out that it looks at a database, while this command runs."""
    logger = logging.getLogger("alembic.runtime.migration")
    logger.addFilter(_is_news)
    try:
        yield
    finally:
        logger.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether Alembic says more than that it looks at a database; several of our connections do, in each run."""
    return record.levelno > logging.INFO or str(record.msg).startswith("Running ")


def _command_line() -> Namespace | None:
    """The arguments of the command line; None where Alembic is called from Python, which may give `-x` alone."""
    arguments = context.config.cmd_opts
    return arguments if hasattr(arguments, "cmd") else None


def _reads_files_only() -> bool:
    """Whether the command needs this environment, but no database."""
    arguments = _command_line()
    if arguments is None:
        return False
    called = arguments.cmd[0]
    if called is command.history:
        return not arguments.indicate_current and "current" not in (arguments.rev_range or "")
    return called is command.merge or (called is command.revision and not arguments.autogenerate)


def _run_without_database(options: dict[str, Any], settings: dict[str, str]) -> None:
    offline = {"as_sql": True, "literal_binds": True, "dialect_opts": {"paramstyle": "named"}}
    configuration = {"url": "postgresql+asyncpg://", **offline, **options}
    context.configure(**configuration)
    function = context.get_context().opts["fn"]
    if function.__name__ == "upgrade":
        context.configure(fn=partial(_told_of_backfills, function), **configuration)
    for name, value in settings.items():
        context.execute(ddl("SET %(name)s = '%(value)s'", name=name, value=value))
    with context.begin_transaction():
        context.run_migrations()


def _told_of_backfills(function: Callable[..., Iterable[RevisionStep]], heads: Any, migration: Any) -> Iterable[Any]:
    """The steps of a script, in which a comment stands where a run would look if a backfill is complete."""
    steps = list(function(heads, migration))
    _refuse_unacknowledged(steps)
    for step in steps:
        for name in required_backfills(step.revision):
            migration.impl.static_output(f"-- Only if this is complete: safe-migrations backfill {name}")
        yield step


def _run_injected(connection: Connection, service: Service, options: dict[str, Any]) -> None:
    """Run on the caller's connection, with the caller's timeouts, and leave the caller's transaction alone."""
    callers = connection.in_transaction()
    configuration = {"connection": connection, "transaction_of_caller": callers, **options}
    context.configure(**configuration)
    request = _Request.of_alembic(service, options)
    if request is None:
        run_migrations(**configuration)
        return
    with _held(connection, request, callers):
        steps = request.plan(connection)
        if request.command == "downgrade":
            request.confirmed_plan(connection)
        if not callers:
            connection.rollback()  # or Alembic would take what reading has begun for the caller's
        if request.command != "stamp":
            _refuse_unacknowledged(steps)
            configuration["fn"] = lambda *_: _when_ready(connection, steps)
        run_migrations(**configuration)


@contextmanager
def _held(connection: Connection, request: "_Request", callers: bool) -> Iterator[None]:
    """Hold both locks: until the caller's transaction ends, or else until the work here is done."""
    keys = [request.lock_key(purpose) for purpose in ("run", "apply")]
    take = func.pg_try_advisory_xact_lock if callers else func.pg_try_advisory_lock
    for key in keys:
        acquire(connection, key, load_policy().lock_wait, take)
    try:
        yield
    finally:
        if not callers:
            with suppress(SQLAlchemyError):  # where the connection is lost, the locks are, too
                connection.rollback()
                for key in keys:
                    release(connection, key)
                connection.rollback()


async def _run_online(database: Database, options: dict[str, Any]) -> None:
    service = database.service
    try:
        async with connected(database) as connection:
            await connection.run_sync(lambda connection: context.configure(connection=connection, **options))
            request = _Request.of_alembic(service, options)
            if request is None:
                await connection.run_sync(_read, service, options)
            else:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                await _migrate(request, connection, database)
    except (DBAPIError, ConnectionError, TimeoutError) as error:
        raise MigrationError(explain(error, database)) from error


def _read(connection: Connection, service: Service, options: dict[str, Any]) -> None:
    """Run a command that changes nothing in the database, such as `current` or `check`."""
    try:
        run_migrations(connection=connection, **options)
    except CommandError as error:
        state = read_state(connection, context.script, options)
        if state.unknown:
            raise refusal(state, service) from error
        if "not up to date" in str(error):
            found, _ = explain_state(state, service)
            following = (
                "Only at head can models be compared with it: alembic upgrade head, then the same command again."
            )
            raise RefusedError(f"{found} Nothing was changed. {following}", EXIT_STATUS[state.name]) from error
        raise


@dataclass(frozen=True)
class _Request:
    """What Alembic was asked to do to a database.

    Attributes:
        command: `upgrade`, `downgrade` or `stamp`.
        function: Alembic's; gives the steps from the current revisions.
        destination: as it was given, such as `head` or `-1`.
        service: whose database it is.
        options: what `context.configure` takes.
    """

    command: str
    function: Callable[..., Iterable[RevisionStep]]
    destination: str
    service: Service
    options: dict[str, Any]

    @classmethod
    def of_alembic(cls, service: Service, options: dict[str, Any]) -> "_Request | None":
        """The request of the running command; None where it changes nothing in the database."""
        opts = context.get_context().opts
        function = opts["fn"]
        name = {"upgrade": "upgrade", "downgrade": "downgrade", "do_stamp": "stamp"}.get(function.__name__)
        if name is None or function.__module__ != command.__name__:
            return None
        return cls(name, function, str(opts.get("destination_rev")), service, options)

    def lock_key(self, purpose: str) -> int:
        """The key of a lock on this history; PostgreSQL keeps the locks of each database apart."""
        options = self.options
        return lock_key(options.get("version_table_schema"), options.get("version_table", "alembic_version"), purpose)

    def read_state(self, connection: Connection) -> State:
        """The database's state; for a downgrade to a revision, it does not matter how many heads this code has."""
        state = read_state(connection, context.script, self.options)
        named = self.command == "downgrade" and not self.destination.startswith("-")
        return replace(state, heads=state.heads[:1]) if named else state

    def steps(self, state: State) -> list[RevisionStep]:
        """The steps from there."""
        return list(self.function(state.current, context.get_context()))

    def plan(self, connection: Connection, before: State | None = None) -> list[RevisionStep]:
        """The steps from the state that the database is in now, if they can't do harm; a stamp plans none.

        Args:
            connection: to the database.
            before: the state before this run waited for the lock, from which a relative destination counts.
        """
        state = self.read_state(connection)
        if self.command == "stamp":  # the way out of most states, and --purge out of this one, too
            if state.unknown and not context.get_context().opts.get("purge"):
                raise refusal(state, self.service)
            return []
        refuse_unsafe(replace(state, invalid=()), self.service)
        if before is not None and before.current != state.current and self.destination.split("@")[-1][:1] in "+-":
            raise MigrationError(
                f"Another run has migrated the database from {before.revisions} to {state.revisions} while this one "
                f"waited, and {self.destination} would count from there: nothing was changed. Look at alembic current, "
                "then run the command again, best with a revision."
            )
        steps = self.steps(state)
        refuse_unsafe(state.excusing([step.revision for step in steps]), self.service)
        return steps

    def confirmed_plan(self, connection: Connection) -> list[Script]:
        """The revisions of a downgrade, after asking if it loses rows."""
        steps = self.plan(connection)
        agreed = context.get_x_argument(as_dictionary=True).get("yes") == ""
        confirm_losses(connection, steps, self.options, yes=agreed)
        return [step.revision for step in steps]


async def _migrate(request: _Request, control: AsyncConnection, database: Database) -> None:
    policy = database.policy
    before = await control.run_sync(request.read_state)
    if request.command == "upgrade" and before.name == AT_HEAD and not request.steps(before):
        log.info("The database is at head (%s): there is nothing to do.", before.revisions)
        return
    # A person who thinks about it keeps nobody waiting.
    confirmed = await control.run_sync(request.confirmed_plan) if request.command == "downgrade" else None
    async with connected(database) as migration:
        pid = await _refuse_pooler(control, migration, request.service, policy)
        async with advisory_lock(control, request.lock_key("run"), policy.lock_wait):
            if not await control.run_sync(request.plan, before) and request.command != "stamp":
                log.info("Another run has been there: there is nothing left to do.")
                return
            # The server finishes what a killed client has begun, while the lock of its other connection is free
            # already: so the connection that applies has one as well. What has been finished may be a COMMIT.
            await migration.run_sync(acquire, request.lock_key("apply"), policy.lock_wait)
            await migration.rollback()
            steps = await control.run_sync(request.plan, before)
            if confirmed is not None and confirmed != [step.revision for step in steps]:
                raise MigrationError(
                    "Another run has migrated the database meanwhile: nothing was changed. Run it again."
                )
            if request.command == "stamp":
                await migration.run_sync(lambda stamped: run_migrations(connection=stamped, **request.options))
                return
            _refuse_unacknowledged(steps)
            await Application(migration, pid, control, policy, request.service).apply(steps, request.options)
            async with connected(database, isolation_level="AUTOCOMMIT") as fresh:
                _verify(steps, await fresh.run_sync(request.read_state), request.service)


async def _refuse_pooler(control: AsyncConnection, migration: AsyncConnection, service: Service, policy: Policy) -> int:
    """Make sure that both connections are to PostgreSQL itself, before a lock is taken that a pooler would keep.

    Returns:
        The pid of the server's process for the connection that applies.
    """
    server_pid = await control.scalar(_PID)
    pid = await migration.scalar(_PID)
    asked = policy.session_settings()
    given = {row.name: row.value for row in await migration.execute(_SETTINGS, {"names": list(asked)})}
    # Its transaction is still open: a pooler that lends a server for each transaction now lends another one.
    if asked != given or server_pid != await control.scalar(_PID):
        raise MigrationError(pooler_refused(service, "a setting or a server process was exchanged"))
    await migration.rollback()
    return int(pid or 0)


def _when_ready(connection: Connection, steps: list[RevisionStep]) -> Iterator[RevisionStep]:
    for step in steps:
        refuse_unready(connection, step)
        yield step


def _refuse_unacknowledged(steps: Iterable[RevisionStep]) -> None:
    refuse_unacknowledged(step.revision for step in steps if step.is_upgrade)


def _verify(steps: list[RevisionStep], state: State, service: Service) -> None:
    """Compare what a new connection reads with what was asked for."""
    if not steps:
        return
    if steps[-1].is_upgrade == (steps[-1].revision.revision not in state.current):
        raise MigrationError(
            f"The migration ran, but the database {state.database!r} is at {state.revisions}: look at it with "
            "safe-migrations state before you run anything."
        )
    if state.invalid:
        found, following = explain_state(state, service)
        raise RefusedError(f"The migration ran to its end. But: {found} {following}", EXIT_STATUS[state.name])
