"""The command `lint`."""

import argparse
import sys
from pathlib import Path

from safe_migrations.command_line import JSON, Commands, config_of, service_of


def register(commands: Commands) -> None:
    """Register the command of this room."""
    of_revisions = (
        "range",
        {"nargs": "?", "help": "A:B, or one revision; by default those that are not on the main branch"},
    )
    github = ("--github", {"action": "store_true", "help": "print annotations of GitHub Actions"})
    commands.add("lint", lint, "report what blocks running code or loses data in revisions", of_revisions, JSON, github)


def lint(arguments: argparse.Namespace) -> int:
    """Report what blocks running code or loses data in revisions."""
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    from safe_migrations.lint import check
    from safe_migrations.lint import findings as output
    from safe_migrations.upgrade.states import load_revisions

    if arguments.json and arguments.github:
        print("lint: --json and --github can't be combined", file=sys.stderr)
        return 2
    script_directory = ScriptDirectory.from_config(config_of(arguments))
    load_revisions(script_directory)
    try:
        scripts = check.find_scripts(script_directory, arguments.range)
    except CommandError as error:
        print(f"lint: {error}", file=sys.stderr)
        return 2
    findings = check.lint(script_directory, scripts, service_of(arguments).postgres_version)
    if arguments.json:
        print(output.as_json(findings))
    elif arguments.github:
        print("\n".join(output.as_github(findings)), end="\n" if findings else "")
    else:
        print(output.as_text(findings, [Path(script.path) for script in scripts]))
    return 1 if findings else 0
