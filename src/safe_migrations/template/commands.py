"""`template-check` and `template-update`, without the settings: config.py may be what an update has left to solve."""

import argparse
import shlex
import shutil
import signal
import sys
from pathlib import Path

from safe_migrations.errors import MigrationError
from safe_migrations.template import releases
from safe_migrations.template import update as template_update

FOLDER = Path(__file__).resolve().parent.parent
INTERRUPTED = "Interrupted. git status shows whether the update has come: it comes whole, or not at all."


def main(name: str, arguments: list[str]) -> None:
    """Run one of them, and end with its exit status (2 for wrong usage).

    Args:
        name: template-check or template-update.
        arguments: those that follow it on the command line.
    """
    command = check if name == "template-check" else update
    parsed = _parsed(name, arguments)
    if not shutil.which("git"):
        sys.exit("git is not installed, and an update needs it: install it, then run the same command again.")
    # As Ctrl-C, so that nothing is left half-written.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        sys.exit(command(parsed))
    except MigrationError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        sys.exit(130)


def check(arguments: argparse.Namespace) -> int:
    """Tell whether the template has a newer release; the exit status tells it too."""
    news = releases.read_news(FOLDER)
    if arguments.json:
        print(news.as_json())
    else:
        print(news.as_text(), *["\nNext: pdm run template-update"] * news.waits, sep="\n")
    return releases.UPDATE_WAITS if news.waits else 0


def update(arguments: argparse.Namespace) -> int:
    """Bring the template's newest release into this service, and check what has become of it."""
    template_update.refuse_unfinished(FOLDER)
    news = releases.read_news(FOLDER)
    print(news.as_text(), flush=True)
    if not news.waits:
        if arguments.data:
            given = " ".join(f"--data {shlex.quote(each)}" for each in arguments.data)
            raise MigrationError(
                f"To change answers alone: pdm run copier update --vcs-ref=:current: --skip-answered {given}"
            )
        return 0
    print(f"\nUpdating to {news.latest} …", flush=True)
    done = template_update.update(FOLDER, news, data=arguments.data, trust=arguments.trust)
    print(done.as_text(), flush=True)
    done.refuse_undecided()
    template_update.check(FOLDER, install="pyproject.toml" in done.files)
    print("\nEverything passes. Next: git add --all . && git diff --cached, then commit.")
    return 0


def _parsed(name: str, arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m safe_migrations {name}")
    if name == "template-check":
        parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    else:
        parser.add_argument("--data", action="append", default=[], metavar="NAME=VALUE", help="give an answer anew")
        parser.add_argument(
            "--trust", action="store_true", help="let the template run code here, if a release needs it"
        )
    return parser.parse_args(arguments)
