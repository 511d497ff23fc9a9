"""The one way in: every Alembic command that runs env.py passes through `run`."""

import logging
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from alembic import command, context
from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError

from safe_migrations.connection import connected, explain, run_async
from safe_migrations.errors import MigrationError

EXPLAINED = {"42501", "55P03"}  # no permission, no lock: what a person puts right without reading the revision


def run(*, database_url: Callable[[], URL], env_prefix: str, **options: Any) -> None:
    """Run the Alembic command that loaded env.py.

    Offline (`--sql`) it prints SQL and needs no database. Online it connects by itself, or uses the connection that
    a caller put into `config.attributes["connection"]`. If that one is in a transaction, it stays the caller's to end.

    Args:
        database_url: reads the settings and gives the URL to migrate; called only if the command needs it.
        env_prefix: prefix of the service's environment variables, to name them in an error.
        options: what `context.configure` takes, such as `target_metadata`.

    Raises:
        MigrationError: something that a person can put right. On the command line it is printed instead, and the
            command ends with the error's exit status.
    """
    options = {"transaction_per_migration": True, **options}
    try:
        _run(database_url, env_prefix, options)
    except MigrationError as error:
        if _command_line() is None:
            raise
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)


def _run(database_url: Callable[[], URL], env_prefix: str, options: dict[str, Any]) -> None:
    injected = context.config.attributes.get("connection")
    if context.is_offline_mode():
        _run_without_database(options)
    elif _reads_files_only():
        logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)  # it would speak of SQL
        _run_without_database(options)
    elif injected is not None:
        _run_on(injected, options)
    else:
        run_async(_run_online(database_url(), env_prefix, options))


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


def _run_without_database(options: dict[str, Any]) -> None:
    context.configure(
        url="postgresql+asyncpg://",
        as_sql=True,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        **options,
    )
    with context.begin_transaction():
        context.run_migrations()


async def _run_online(url: URL, env_prefix: str, options: dict[str, Any]) -> None:
    async with connected(url, env_prefix) as connection:
        try:
            await connection.run_sync(_run_on, options)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in EXPLAINED:
                raise
            raise MigrationError(explain(error, url, env_prefix)) from error


def _run_on(connection: Connection, options: dict[str, Any]) -> None:
    context.configure(connection=connection, **options)
    with context.begin_transaction():
        context.run_migrations()
