"""Which command of Alembic runs `env.py`, and what it does: by names that Alembic does not document."""

from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from alembic import command, context
from alembic.config import Config
from alembic.runtime.migration import RevisionStep

# What Alembic's commands give to the environment, by name: what each does to a database, None for nothing.
_COMMANDS: dict[str, str | None] = {
    **{"upgrade": "upgrade", "downgrade": "downgrade", "do_stamp": "stamp", "do_ensure_version": "stamp"},
    **dict.fromkeys(["retrieve_migrations", "nothing", "show_current", "edit_current", "display_version"]),
    "_display_current_history": None,
}


def command_line(config: Config) -> Namespace | None:
    """The arguments of the command `alembic`; None for a call from Python, which may have arguments of `-x` alone."""
    return config.cmd_opts if hasattr(config.cmd_opts, "cmd") else None


def writes_revision() -> bool:
    """Whether the command line is `revision`."""
    arguments = command_line(context.config)
    return arguments is not None and arguments.cmd[0] is command.revision


def reads_files_only() -> bool:
    """Whether the command needs `env.py`, but no database."""
    arguments = command_line(context.config)
    if arguments is None:
        return False
    called = arguments.cmd[0]
    if called is command.history:
        return not arguments.indicate_current and "current" not in (arguments.rev_range or "")
    return called is command.merge or (called is command.revision and not arguments.autogenerate)


def autogenerates(options: Mapping[str, Any]) -> bool:
    """Whether the command is `revision --autogenerate`, not `check`, which reports Alembic's own operations."""
    revision_context = options.get("revision_context")
    called: str = options["fn"].__qualname__
    return called.startswith("revision.") and bool(revision_context and revision_context.command_args["autogenerate"])


def effect_on_database(options: Mapping[str, Any]) -> str | None:
    """What the command does to the database: `upgrade`, `downgrade` or `stamp`; None if it changes nothing."""
    function = options["fn"]
    effect = _COMMANDS.get(function.__name__) if function.__module__ == command.__name__ else ""
    if effect is None or options.get("dont_mutate"):
        return None
    return effect or _effect_of_unknown(function)


def _effect_of_unknown(function: Callable[..., Iterable[RevisionStep]]) -> str:
    """What a function that is not Alembic's does to the database; unless known to read only, it is guarded."""
    migration_context = context.get_context()
    connection = migration_context.connection
    callers = connection is None or connection.in_transaction()
    steps = list(function(migration_context.get_current_heads(), migration_context))
    if connection is not None and not callers:
        connection.rollback()
    return "upgrade" if all(step.is_upgrade for step in steps) else "downgrade"
