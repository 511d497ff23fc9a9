"""Functions that the commands of all rooms share. No library is imported, because `state --quick` uses this module."""

import argparse
from collections.abc import Callable, Sequence
from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from alembic.config import Config

    from safe_migrations.service import Service
    from safe_migrations.upgrade.project import Project

Number = TypeVar("Number", int, float)
Option = tuple[str, dict[str, Any]]

YES: Option = ("--yes", {"action": "store_true", "help": "answer the question with yes"})
WIDTH = 100  # characters of a line
JSON: Option = ("--json", {"action": "store_true", "help": "print JSON"})


class Commands:
    """Where each room registers its commands."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        self, name: str, function: Callable[[argparse.Namespace], int], help: str, *options: Option
    ) -> argparse.ArgumentParser:
        """Register a command.

        Args:
            options: each a name, and the arguments of `add_argument`.

        Returns:
            The command's parser.
        """
        command = self._commands.add_parser(name, help=help, description=help)
        command.set_defaults(function=function)
        for option, settings in options:
            command.add_argument(option, **settings)
        return command

    def group(self, name: str, help: str) -> "Commands":
        """Register commands with a common first word."""
        return Commands(self._commands.add_parser(name, help=help, description=help))


def config_of(arguments: argparse.Namespace) -> "Config":
    """Alembic's configuration.

    Raises:
        ConfigurationError: there is no such file.
    """
    from safe_migrations.upgrade.project import alembic_config

    return alembic_config(arguments.config)


def project_of(arguments: argparse.Namespace) -> "Project":
    """The project, as its `env.py` describes it.

    Raises:
        ConfigurationError: there is no `alembic.ini`, or `env.py` does not call `run_env`.
    """
    from safe_migrations.upgrade.project import load_project

    return load_project(config_of(arguments))


def service_of(arguments: argparse.Namespace) -> "Service":
    """The service, as `alembic.ini` describes it, for commands that need no `env.py`.

    Raises:
        ConfigurationError: there is no `alembic.ini`, or it has a value that can't be used.
    """
    from safe_migrations.service import Service, find_config_files

    return Service.read(find_config_files(arguments.config)[0])


def run_alembic(arguments: argparse.Namespace, *command: str, x: Sequence[str] = ()) -> int:
    """Run a command of `alembic` in this process, as the shell would."""
    from alembic.config import main

    configs = (argument for file in arguments.config for argument in ("-c", file))
    main([*configs, *(argument for value in x for argument in ("-x", value)), *command], prog="alembic")
    return 0


def at_least(least: int, kind: Callable[[str], Number]) -> Callable[[str], Number]:
    """A type for argparse: a number with a minimum."""

    def number(text: str) -> Number:
        value = kind(text)
        if not value >= least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return value

    return number


def as_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text, of at most 100 characters a line; long cells are wrapped."""
    widths = [max(1, *map(len, column)) for column in zip(header, *rows, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > WIDTH:
        widths[widths.index(max(widths))] -= 1
    lines = [header, ["-" * width for width in widths]]
    for row in rows:
        cells = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
        lines += zip_longest(*cells, fillvalue="")
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _wrapped(cell: str, width: int) -> list[str]:
    """The lines of a cell, with its indentation."""
    indentation = cell[: len(cell) - len(cell.lstrip())]
    return wrap(cell, width, subsequent_indent=indentation, break_on_hyphens=False) or [""]
