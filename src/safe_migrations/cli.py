"""The command `safe-migrations`, and `python -m safe_migrations`: parse, call, and show errors."""

import argparse
import atexit
import gc
import os
import signal
import sys
from typing import NoReturn

from safe_migrations import logs
from safe_migrations.adopt import commands as adopt
from safe_migrations.autogenerate import commands as autogenerate
from safe_migrations.command_line import Commands
from safe_migrations.dev import commands as dev
from safe_migrations.errors import MigrationError, commands_with, interrupt
from safe_migrations.fleet import commands as fleet
from safe_migrations.history import commands as history
from safe_migrations.lint import commands as lint
from safe_migrations.operate import commands as operate
from safe_migrations.report import commands as report
from safe_migrations.schema import commands as schema
from safe_migrations.template import commands as template

ROOMS = (operate, autogenerate, lint, report, history, adopt, schema, dev, template, fleet)


def main() -> None:
    """Run one command, and end with its exit status (2 for wrong usage)."""
    gc.set_threshold(200_000)  # or Python searches the imported libraries for cycles again and again
    atexit.register(gc.freeze)  # or Python searches all objects once more before the process ends
    arguments = _parser().parse_args()
    # As Ctrl-C, which asyncio handles, so that a cancelled job leaves no copy of a database behind.
    signal.signal(signal.SIGTERM, interrupt)
    with commands_with(arguments.config):
        _run(arguments)


def _run(arguments: argparse.Namespace) -> NoReturn:
    try:
        logs.use_format(os.environ)
        status = arguments.function(arguments)
        sys.stdout.flush()
        sys.exit(status)
    except MigrationError as error:
        logs.write_error(error)
        sys.exit(error.exit_status)
    except KeyboardInterrupt as error:
        logs.write_error(error)
        sys.exit(130)
    except BrokenPipeError:  # the reader has read enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        if _is_of_alembic(error):  # such as an unknown revision
            logs.write_error(error)
            sys.exit(1)
        raise


def _is_of_alembic(error: Exception) -> bool:
    from alembic.util import CommandError  # here, because the probe does not wait for Alembic

    return isinstance(error, CommandError)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="safe-migrations")
    parser.add_argument(
        "-c",
        "--config",
        action="append",
        default=[],
        metavar="FILE",
        help="the path of alembic.ini, if the file is not in this folder; as for alembic",
    )
    commands = Commands(parser)
    for room in ROOMS:
        room.register(commands)
    return parser
