"""The reviewer's command: lint."""

import argparse
import sys
from pathlib import Path

from safe_migrations.command_line import JSON, Commands, config_of, service_of


def register(commands: Commands) -> None:
    """Register the command of this room.

    Args:
        commands: of the command line.
    """
    of_revisions = ("range", {"nargs": "?", "help": "A:B or one revision; by default those not on the main branch"})
    github = ("--github", {"action": "store_true", "help": "print annotations of GitHub Actions"})
    commands.add("lint", lint, "tell what would hurt when revisions run under traffic", of_revisions, JSON, github)


def lint(arguments: argparse.Namespace) -> int:
    """Tell what would hurt when revisions run under traffic."""
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    from safe_migrations.lint import check, findings
    from safe_migrations.upgrade.states import load_revisions

    if arguments.json and arguments.github:
        print("lint: --json or --github, not both", file=sys.stderr)
        return 2
    script_directory = ScriptDirectory.from_config(config_of(arguments))
    load_revisions(script_directory)
    try:
        scripts = check.find_scripts(script_directory, arguments.range)
    except CommandError as error:
        print(f"lint: {error}", file=sys.stderr)
        return 2
    found = check.lint(script_directory, scripts, service_of(arguments).postgres_version)
    if arguments.json:
        print(findings.as_json(found))
    elif arguments.github:
        print("\n".join(findings.as_github(found)), end="\n" if found else "")
    else:
        print(findings.as_text(found, [Path(script.path) for script in scripts]))
    return 1 if found else 0
