"""The command `lint`."""

import argparse
import sys
from functools import partial
from pathlib import Path

from safe_migrations.command_line import JSON, Commands, config_of, service_of
from safe_migrations.errors import runnable


def register(commands: Commands) -> None:
    """Register the command of this room."""
    of_revisions = (
        "range",
        {"nargs": "?", "help": "A:B, or one revision; by default the revisions that are not on the main branch"},
    )
    github = ("--github", {"action": "store_true", "help": "print annotations of GitHub Actions"})
    explain = ("--explain", {"metavar": "RULE", "help": "print why a rule exists and what to write instead, and end"})
    help = "report what blocks running code or loses data in revisions"
    commands.add("lint", lint, help, of_revisions, JSON, github, explain)


def lint(arguments: argparse.Namespace) -> int:
    """Report what blocks running code or loses data in revisions."""
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    from safe_migrations.lint import check
    from safe_migrations.lint import findings as output
    from safe_migrations.lint.still_in_models import load_models
    from safe_migrations.upgrade.loading import load_revisions

    if arguments.explain:
        return _explain(arguments.explain)
    if arguments.json and arguments.github:
        print("lint: --json and --github can't be combined", file=sys.stderr)
        return 2
    config = config_of(arguments)
    script_directory = ScriptDirectory.from_config(config)
    load_revisions(script_directory)
    try:
        scripts = check.find_scripts(script_directory, arguments.range)
    except CommandError as error:
        print(f"lint: {error}", file=sys.stderr)
        return 2
    version = service_of(arguments).postgres_version
    findings = check.lint(script_directory, scripts, version, partial(load_models, config))
    if arguments.json:
        print(output.as_json(findings))
    elif arguments.github:
        print("\n".join(output.as_github(findings)), end="\n" if findings else "")
    else:
        print(output.as_text(findings, [Path(script.path) for script in scripts]))
    return 1 if findings else 0


def _explain(name: str) -> int:
    """Print why a rule exists and what to write instead."""
    from difflib import get_close_matches

    from safe_migrations.lint.findings import explanation
    from safe_migrations.lint.rules import RULES
    from safe_migrations.lint.rules.squawk import SWITCHED_OFF

    if name in RULES:
        print(explanation(RULES[name]))
        return 0
    if name in SWITCHED_OFF:
        print(f"{name}: a rule of squawk that is switched off: {SWITCHED_OFF[name]}")
        return 0
    similar = get_close_matches(name, RULES) or sorted(rule for rule in RULES if name in rule)
    known = f"similar rules: {', '.join(similar)}" if similar else f"the rules: {', '.join(sorted(RULES))}"
    example = similar[0] if similar else "missing-phase"
    message = f"lint: there is no rule {name!r}; {known}\nsafe-migrations lint --explain {example}"
    print(runnable(message), file=sys.stderr)
    return 2
