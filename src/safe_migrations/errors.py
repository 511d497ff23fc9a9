"""The kinds of errors that a user can cause, each with the exit status of a command that ends with one."""

import os
import re
import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_PROGRAM = re.compile(
    r"(?:^|(?<=[Rr]un: ))(?=(?:alembic|copier|ruff|safe-migrations) )|(?<=&& )(?=(?:ruff|safe-migrations) )",
    re.MULTILINE,
)
_CONFIGURED = re.compile(r"(?:^|(?<=&& )|(?<=[Rr]un: ))(?:alembic|safe-migrations)(?= (?!-c ))", re.MULTILINE)
_config_files: list[str] = []  # see commands_with

INTERRUPTED = "Interrupted: what was not committed is rolled back. To continue, run the same command again."


def interrupt(*_: object) -> None:
    """Handle SIGTERM as Ctrl-C, also where a shell has started the command with `&`, which ignores Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


@contextmanager
def commands_with(config_files: Sequence[str]) -> Iterator[None]:
    """Let the commands of messages name the configuration that this command was started with."""
    before = _config_files[:]
    _config_files[:] = config_files
    try:
        yield
    finally:
        _config_files[:] = before


def runnable(text: str) -> str:
    """A message whose commands run where the message is shown, with the same configuration.

    Under `pdm run`, the shell may not have the programs.

    Args:
        text: with each command on a line of its own, or behind "run: ".
    """
    options = "".join(f" -c {shlex.quote(file)}" for file in _config_files)
    text = _CONFIGURED.sub(lambda program: program[0] + options, text)
    return _PROGRAM.sub("pdm run ", text) if "PDM_RUN_CWD" in os.environ else text


class MigrationError(Exception):
    """An error that a user can correct; the base class of all kinds.

    The message is shown as it is, without a traceback: it says what happened, what that means, and what to do next.
    It never contains a password.

    Attributes:
        exit_status: the exit status of a command that ends with this error.
    """

    exit_status = 1

    def __str__(self) -> str:
        return runnable(super().__str__())


class ConfigurationError(MigrationError):
    """A setting is missing or invalid."""

    exit_status = 11


class ConnectionFailedError(MigrationError):
    """PostgreSQL could not be reached, refused the connection, or closed it."""

    exit_status = 12


class LockedError(MigrationError):
    """A lock was not free within its timeout: another process migrates, or another session uses the table."""

    exit_status = 13


class NotConfirmedError(MigrationError):
    """The user did not confirm a data loss, or another danger; nothing was changed."""

    exit_status = 14


class RevisionError(MigrationError):
    """A revision failed, or its file can't be used."""

    exit_status = 15


class BackfillError(MigrationError):
    """A backfill failed, is not complete, or its file can't be used."""

    exit_status = 16


class NotInstalledError(MigrationError):
    """A command needs one of the distribution's extras."""

    exit_status = 17

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} is not installed. Install the extra {extra} (with pdm install, if the project names it):\n"
            f"python3 -m pip install 'alembic-safe-migrations[{extra}]'"
        )


class EmbeddedPostgresError(MigrationError):
    """The embedded PostgreSQL could not be found, started or stopped."""

    exit_status = 18


class HistoryError(MigrationError):
    """Git can't be read, or the revisions of two branches can't be put in order; nothing was changed."""

    exit_status = 19


class BackupError(MigrationError):
    """A backup or a restore failed."""

    exit_status = 20


class TemplateError(MigrationError):
    """The template can't be read or has no release, or its update can't be started; nothing was changed."""

    exit_status = 21


class ModelError(MigrationError):
    """SQLAlchemy or PostgreSQL can't use the models; nothing was changed."""

    exit_status = 22


class AdoptionError(MigrationError):
    """The schema of a database can't be reproduced, or differs from what the revisions make; it was not recorded."""

    exit_status = 24


class RefusedError(MigrationError):
    """The state of the database does not allow the command; nothing was changed."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status
