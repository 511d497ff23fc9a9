"""`run_env`, which a project's `env.py` calls: the project's options, and the options that the library adds."""

import atexit
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from alembic import context
from alembic.config import Config
from alembic.script import write_hooks

from safe_migrations import logs
from safe_migrations.autogenerate import plugin
from safe_migrations.errors import ConfigurationError, MigrationError, commands_with, interrupt
from safe_migrations.history.numbering import HOOK, number_files
from safe_migrations.service import SECTION, Service
from safe_migrations.upgrade import runner
from safe_migrations.upgrade.project import COLLECT, DatabaseURL, Project, service_of
from safe_migrations.upgrade.running_command import command_line
from safe_migrations.upgrade.target_metadata import check_models, explained_models


def run_env(*, database_url: DatabaseURL, **options: Any) -> None:
    """Run the Alembic command that has loaded `env.py`, safely.

    Offline (`--sql`) it prints SQL and needs no database. Online it connects to the database, or uses the connection
    that a caller has put into `config.attributes["connection"]`. A transaction of the caller is left for the caller to
    end.

    Args:
        database_url: a URL of PostgreSQL, for any driver, or a function that returns one, which is called only if the
            command needs a database. The library connects with asyncpg.
        options: what `context.configure` takes, such as `target_metadata`.

    Raises:
        MigrationError: an error that a user can correct. On the command line it is printed instead, and the command
            ends with the error's exit status.
    """
    _run_or_explain(service_of, database_url, options)


@contextmanager
def explain_model_errors() -> Iterator[None]:
    """Import the models in `env.py`, so that a mistake in them ends each command with one sentence.

    Raises:
        ModelError: SQLAlchemy refuses the models. On the command line it is printed instead, and the command ends with
            the error's exit status.
    """
    with _printed_on_command_line(), explained_models():
        yield


def run_deprecated(*, env_prefix: str, database_url: DatabaseURL, **options: Any) -> None:
    """`run_env` for an `env.py` of template 1.x, which names the prefix of the variables itself.

    Raises:
        MigrationError: as `run_env` does.
    """
    _run_or_explain(lambda config: service_of(config).of_deprecated_prefix(env_prefix), database_url, options)


def _run_or_explain(
    read_service: Callable[[Config], Service], database_url: DatabaseURL, options: Mapping[str, Any]
) -> None:
    if command_line(context.config) is not None:
        atexit.register(gc.freeze)  # or Python searches all objects for cycles before the process ends
        if threading.current_thread() is threading.main_thread():
            # The first process of a container ignores SIGTERM without a handler.
            signal.signal(signal.SIGTERM, interrupt)
    with _printed_on_command_line():
        logs.enable()
        _run(read_service(context.config), database_url, options)


@contextmanager
def _printed_on_command_line() -> Iterator[None]:
    arguments = command_line(context.config)
    with commands_with((arguments and arguments.config) or ()):
        try:
            _use_log_format()
            yield
        except (MigrationError, KeyboardInterrupt) as error:
            if arguments is None:
                raise
            logs.write_error(error)
            sys.exit(error.exit_status if isinstance(error, MigrationError) else 130)


def _use_log_format() -> None:
    if context.config.cmd_opts is None:
        return  # the logging is an application's
    variables: Mapping[str, str] = os.environ
    with suppress(ConfigurationError):  # the command reports it, where it needs a database
        variables = service_of(context.config).variables
    logs.use_format(variables)


@write_hooks.register(HOOK)
def finish_revision(path: str, _options: Mapping[str, str]) -> None:
    """The post-write hook of `alembic.ini`."""
    from safe_migrations.autogenerate.formatting import finish  # here: an upgrade does not wait for it

    finish(path)


def _run(service: Service, database_url: DatabaseURL, options: Mapping[str, Any]) -> None:
    service = _with_version_table(service, options)
    project = Project(context.config, context.script, service, database_url, _complete(service, options))
    projects = context.config.attributes.get(COLLECT)
    if projects is not None:
        projects.append(project)
        return
    number_files(context.script)
    runner.run(project)


def _with_version_table(service: Service, options: Mapping[str, Any]) -> Service:
    """The service, with the table that records the revision; `state --quick` reads it without running `env.py`."""
    names = [name for name in ("version_table", "version_table_schema") if options.get(name)]
    changed = {name: options[name] for name in names if options[name] != getattr(service, name)}
    if changed and service.is_declared:
        lines = "\n".join(f"{name} = {value}" for name, value in changed.items())
        raise ConfigurationError(
            f"env.py and {os.path.relpath(service.config_file)} name different version tables. Remove the option from "
            f"env.py, and write it into the section [{SECTION}] of {os.path.relpath(service.config_file)}:\n{lines}"
        )
    return replace(service, **changed)


def _complete(service: Service, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a project, with the options that this library adds."""
    check_models(options.get("target_metadata"))
    scope = plugin.Scope(options.get("include_name"))
    return {
        "transaction_per_migration": True,
        "compare_server_default": True,
        "autogenerate_plugins": plugin.PLUGINS,
        **options,
        "version_table": service.version_table,
        "version_table_schema": service.version_table_schema,
        "include_name": scope.include_name,
        plugin.SCOPE: scope,
        "render_item": plugin.render_item(options.get("render_item")),
        "process_revision_directives": plugin.write_plan(options.get("process_revision_directives")),
    }
