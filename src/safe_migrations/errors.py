"""What a person reads when something goes wrong, and the exit status that goes with it."""

INTERRUPTED = "Interrupted: what was not committed is rolled back. The same command goes on there."


class MigrationError(Exception):
    """Something that a person can put right.

    The message is shown as it is, without a traceback: it says what happened, what that means, and what to do next.
    It never holds a password.

    Attributes:
        exit_status: the status that a command ends with.
    """

    exit_status = 1


class ConfigurationError(MigrationError):
    """A setting is missing or can't be used."""


class ConnectionFailedError(MigrationError):
    """PostgreSQL could not be reached, or did not let us in."""


class EmbeddedPostgresError(MigrationError):
    """The embedded PostgreSQL could not be found, started or stopped."""


class NotInstalledError(MigrationError):
    """A command needs one of the distribution's extras."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} is not installed: python3 -m pip install 'alembic-safe-migrations[{extra}]' (pdm install, where "
            "the project names that extra)."
        )


class RefusedError(MigrationError):
    """The database is in a state in which this would do harm; nothing was changed."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status
