"""`run_env`, which `env.py` of a project calls: what the project says, put together with what the library adds."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from alembic import context
from alembic.config import Config
from alembic.script import write_hooks

from safe_migrations import logs
from safe_migrations.autogenerate import plugin
from safe_migrations.errors import INTERRUPTED, ConfigurationError, MigrationError
from safe_migrations.history.numbering import HOOK, number_files
from safe_migrations.service import SECTION, Service
from safe_migrations.upgrade import runner
from safe_migrations.upgrade.project import COLLECT, DatabaseURL, Project, is_command_line, service_of


def run_env(*, database_url: DatabaseURL, **options: Any) -> None:
    """Run the Alembic command that has loaded `env.py`, safely.

    Offline (`--sql`) it prints SQL and needs no database. Online it connects by itself, or uses the connection that
    a caller put into `config.attributes["connection"]`. If that one is in a transaction, it stays the caller's to end.

    Args:
        database_url: a URL of PostgreSQL, for any driver, or a function that gives one, which is called only if the
            command needs a database. The library connects by asyncpg.
        options: what `context.configure` takes, such as `target_metadata`.

    Raises:
        MigrationError: something that a person can put right. On the command line it is printed instead, and the
            command ends with the error's exit status.
    """
    _run_or_explain(service_of, database_url, options)


def run_deprecated(*, env_prefix: str, database_url: DatabaseURL, **options: Any) -> None:
    """The same for an `env.py` of template 1.x, which says itself which prefix the variables have.

    Args:
        env_prefix: prefix of the service's environment variables.
        database_url: as `run_env` takes it.
        options: as `run_env` takes them.

    Raises:
        MigrationError: as `run_env` does.
    """
    _run_or_explain(lambda config: service_of(config).of_deprecated_prefix(env_prefix), database_url, options)


def _run_or_explain(
    read_service: Callable[[Config], Service], database_url: DatabaseURL, options: Mapping[str, Any]
) -> None:
    logs.enable()
    try:
        _run(read_service(context.config), database_url, options)
    except (MigrationError, KeyboardInterrupt) as error:
        if not is_command_line(context.config):
            raise
        if isinstance(error, MigrationError):
            print(error, file=sys.stderr)
            sys.exit(error.exit_status)
        print(INTERRUPTED, file=sys.stderr)
        sys.exit(130)


@write_hooks.register(HOOK)
def finish_revision(path: str, _options: Mapping[str, str]) -> None:
    """The post-write hook of `alembic.ini`.

    Args:
        path: the new revision file.
    """
    from safe_migrations.autogenerate.formatting import finish  # here: an upgrade does not wait for it

    finish(path)


def _run(service: Service, database_url: DatabaseURL, options: Mapping[str, Any]) -> None:
    service = _with_version_table(service, options)
    project = Project(context.config, context.script, service, database_url, _complete(service, options))
    described = context.config.attributes.get(COLLECT)
    if described is not None:
        described.append(project)
        return
    number_files(context.script)
    runner.run(project)


def _with_version_table(service: Service, options: Mapping[str, Any]) -> Service:
    """The service, with the table that records the revision; `state --quick` reads it without running `env.py`."""
    given = {name: options[name] for name in ("version_table", "version_table_schema") if options.get(name)}
    changed = {name: value for name, value in given.items() if value != getattr(service, name)}
    if changed and service.is_declared:
        lines = " and ".join(f"{name} = {value}" for name, value in changed.items())
        raise ConfigurationError(
            f"env.py records the revision in another table than {os.path.relpath(service.config_file)} says: write "
            f"{lines} into its section [{SECTION}], from where env.py has it as well."
        )
    return replace(service, **changed)


def _complete(service: Service, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a project, with those that this library adds."""
    return {
        "transaction_per_migration": True,
        "compare_server_default": True,
        "autogenerate_plugins": plugin.PLUGINS,
        **options,
        "version_table": service.version_table,
        "version_table_schema": service.version_table_schema,
        "include_name": plugin.include_name(options.get("include_name")),
        "process_revision_directives": plugin.write_series(options.get("process_revision_directives")),
    }
