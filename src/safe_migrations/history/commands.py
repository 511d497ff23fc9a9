"""The commands for two branches: rebase, merge."""

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from safe_migrations.command_line import Commands, config_of, project_of, run_alembic
from safe_migrations.errors import runnable

if TYPE_CHECKING:
    from safe_migrations.history.rebase import Move


def register(commands: Commands) -> None:
    """Register the commands of this room."""
    branch = (
        "revision",
        {"nargs": "?", "help": "the head to move; by default the head that is not on the main branch"},
    )
    commands.add("rebase", rebase, "move the unapplied revisions of a branch behind the other head", branch)
    message = ("message", {"help": "message of the merge revision"})
    heads = ("revisions", {"nargs": "*", "default": ["heads"], "help": "the revisions to join; by default all heads"})
    commands.add("merge", merge, "join applied heads by a merge revision", message, heads)


def rebase(arguments: argparse.Namespace) -> int:
    """Move the unapplied revisions of a branch behind the other head."""
    from alembic.script import ScriptDirectory

    from safe_migrations.history import rebase as moving
    from safe_migrations.upgrade.loading import load_revisions

    script_directory = ScriptDirectory.from_config(config_of(arguments))
    load_revisions(script_directory)
    move = moving.plan(script_directory, arguments.revision)
    if move is None:
        heads = " ".join(moving.set_head(script_directory)) or "none"
        print(f"No branch has two heads; nothing to move. HEAD contains the newest revision of each branch: {heads}")
        return 0
    for sentence in _refuse_applied(arguments, move):
        print(sentence)
    paths = moving.carry_out(script_directory, move)
    print(f"Moved behind {Path(move.onto.path).name}:")
    print("\n".join(f"  {before.name} -> {after.name}" for before, after in paths))
    folders = shlex.join(sorted({os.path.relpath(after.parent) for _, after in paths}))
    print(
        runnable(f"Next, upgrade, run the tests, and stage the files:\nalembic upgrade head\ngit add --all {folders}")
    )
    return 0


def merge(arguments: argparse.Namespace) -> int:
    """Call `alembic merge`."""
    return run_alembic(arguments, "merge", f"--message={arguments.message}", *arguments.revisions)


def _refuse_applied(arguments: argparse.Namespace, move: "Move") -> list[str]:
    """Read the databases of migrations and of the application, where they are configured."""
    from safe_migrations.history.applied import configured_databases
    from safe_migrations.history.rebase import refuse_applied

    project = project_of(arguments)
    databases, warnings = configured_databases(project)
    return warnings + refuse_applied(project.script, move, databases, project.version_options)
