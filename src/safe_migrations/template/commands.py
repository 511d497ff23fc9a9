"""The commands of a service made from the template: template-check and template-update.

They read neither the settings nor `env.py`, which may have a conflict.
"""

import argparse
import shlex
import sys
from pathlib import Path

from safe_migrations.command_line import JSON, Commands
from safe_migrations.errors import TemplateError, runnable
from safe_migrations.service import find_config_files

INTERRUPTED = "Interrupted. The update is applied completely or not at all. To see which:\ngit status"


def register(commands: Commands) -> None:
    """Register the commands of this room."""
    data = ("--data", {"action": "append", "default": [], "metavar": "NAME=VALUE", "help": "change an answer"})
    trust = ("--trust", {"action": "store_true", "help": "let the template run code here, which some releases need"})
    commands.add("template-check", check, "report whether the template has a newer release", JSON)
    commands.add(
        "template-update",
        update_or_explain,
        "update to the template's newest release, and check the service",
        data,
        trust,
    )


def check(arguments: argparse.Namespace) -> int:
    """Report whether the template has a newer release, also by the exit status."""
    from safe_migrations.template import releases

    news = releases.read_news(_folder(arguments))
    if arguments.json:
        print(news.as_json())
    else:
        print(news.as_text(), *[runnable("\nTo update:\nsafe-migrations template-update")] * news.waits, sep="\n")
    return releases.UPDATE_WAITS if news.waits else 0


def update_or_explain(arguments: argparse.Namespace) -> int:
    """Update, with a message for an interrupt."""
    try:
        return update(arguments)
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130


def update(arguments: argparse.Namespace) -> int:
    """Update this service to the template's newest release, and run its checks."""
    from safe_migrations.template import releases
    from safe_migrations.template import update as updating

    folder = _folder(arguments)
    updating.refuse_unfinished(folder)
    news = releases.read_news(folder)
    print(news.as_text(), flush=True)
    if not news.waits:
        if arguments.data:
            options = " ".join(f"--data {shlex.quote(answer)}" for answer in arguments.data)
            raise TemplateError(f"To change answers only:\ncopier update --vcs-ref=:current: --skip-answered {options}")
        return 0
    print(f"\nUpdating to {news.latest} …", flush=True)
    result = updating.update(folder, news, data=arguments.data, trust=arguments.trust)
    print(result.as_text(), flush=True)
    result.refuse_undecided()
    updating.check(folder, install="pyproject.toml" in result.files)
    print("\nAll checks pass. To review the update, then commit:\ngit add --all . && git diff --cached")
    return 0


def _folder(arguments: argparse.Namespace) -> Path:
    from safe_migrations.template.update import refuse_without_git

    refuse_without_git()
    return find_config_files(arguments.config)[0].absolute().parent
