"""The commands of a service made from the template: template-check and template-update.

They need neither the settings nor `env.py`, which may be what an update has left to solve.
"""

import argparse
import shlex
import shutil
import sys
from pathlib import Path

from safe_migrations.command_line import JSON, Commands
from safe_migrations.errors import MigrationError
from safe_migrations.service import find_config_files

INTERRUPTED = "Interrupted. git status shows whether the update has come: it comes whole, or not at all."


def register(commands: Commands) -> None:
    """Register the commands of this room.

    Args:
        commands: of the command line.
    """
    data = ("--data", {"action": "append", "default": [], "metavar": "NAME=VALUE", "help": "give an answer anew"})
    trust = ("--trust", {"action": "store_true", "help": "let the template run code here, if a release needs it"})
    commands.add("template-check", check, "tell whether the template has a newer release", JSON)
    commands.add(
        "template-update", update_or_explain, "bring the template's newest release, and check the service", data, trust
    )


def check(arguments: argparse.Namespace) -> int:
    """Tell whether the template has a newer release; the exit status tells it too."""
    from safe_migrations.template import releases

    news = releases.read_news(_folder(arguments))
    if arguments.json:
        print(news.as_json())
    else:
        print(news.as_text(), *["\nNext: pdm run template-update"] * news.waits, sep="\n")
    return releases.UPDATE_WAITS if news.waits else 0


def update_or_explain(arguments: argparse.Namespace) -> int:
    """The same, with its own sentence where somebody interrupts it."""
    try:
        return update(arguments)
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130


def update(arguments: argparse.Namespace) -> int:
    """Bring the template's newest release into this service, and check what has become of it."""
    from safe_migrations.template import releases
    from safe_migrations.template import update as updating

    folder = _folder(arguments)
    updating.refuse_unfinished(folder)
    news = releases.read_news(folder)
    print(news.as_text(), flush=True)
    if not news.waits:
        if arguments.data:
            given = " ".join(f"--data {shlex.quote(each)}" for each in arguments.data)
            raise MigrationError(
                f"To change answers alone: pdm run copier update --vcs-ref=:current: --skip-answered {given}"
            )
        return 0
    print(f"\nUpdating to {news.latest} …", flush=True)
    done = updating.update(folder, news, data=arguments.data, trust=arguments.trust)
    print(done.as_text(), flush=True)
    done.refuse_undecided()
    updating.check(folder, install="pyproject.toml" in done.files)
    print("\nEverything passes. Next: git add --all . && git diff --cached, then commit.")
    return 0


def _folder(arguments: argparse.Namespace) -> Path:
    if not shutil.which("git"):
        raise MigrationError(
            "git is not installed, and an update needs it: install it, then run the same command again."
        )
    return find_config_files(arguments.config)[0].absolute().parent
