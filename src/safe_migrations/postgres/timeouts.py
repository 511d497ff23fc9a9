"""Every bound of a migration, from the environment, with its unit."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from safe_migrations.errors import ConfigurationError

DEFAULTS = {
    "MIGRATION_LOCK_WAIT": "5min",
    "MIGRATION_LOCK_TIMEOUT": "1s",
    "MIGRATION_STATEMENT_TIMEOUT": "15min",
    "MIGRATION_RETRY_WINDOW": "5min",
}
UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}  # seconds; PostgreSQL's own names
LONGEST = 24 * 3600.0  # seconds
LONGEST_PAUSE = 10.0  # seconds between two tries
REPORT = 10.0  # seconds between two reports of what takes long; the first one comes after a second


@dataclass(frozen=True)
class Policy:
    """How long a migration may take, and how long it may keep others waiting; all in seconds.

    Attributes:
        lock_wait: for another migration that is running.
        lock_timeout: for a lock on a table, in one try. While a statement waits, later readers wait behind it.
        statement_timeout: for one statement; 0 for no bound. Concurrent index builds have none.
        retry_window: for a revision, over all tries, from the first on.
    """

    lock_wait: float
    lock_timeout: float
    statement_timeout: float
    retry_window: float

    def session_settings(self) -> dict[str, str]:
        """PostgreSQL's settings for a session that migrates.

        See https://www.postgresql.org/docs/current/runtime-config-client.html and, for the server that notices a
        client's death while it works for it, https://www.postgresql.org/docs/current/runtime-config-connection.html
        """
        return {
            "lock_timeout": milliseconds(self.lock_timeout),
            "statement_timeout": milliseconds(self.statement_timeout),
            "client_connection_check_interval": "1000ms",
        }

    def offline_settings(self) -> dict[str, str]:
        """Those of them that a script sets for itself."""
        return {name: value for name, value in self.session_settings().items() if name.endswith("_timeout")}


def load_policy(environment: Mapping[str, str] = os.environ) -> Policy:
    """Read the bounds.

    Args:
        environment: the variables; those that are missing or empty have their default.

    Raises:
        ConfigurationError: a value is not a duration, or out of range.
    """
    lock_wait, lock_timeout, statement_timeout, retry_window = (
        _duration(variable, environment.get(variable) or default, least=0.001 if "LOCK_TIMEOUT" in variable else 0)
        for variable, default in DEFAULTS.items()
    )
    return Policy(lock_wait, lock_timeout, statement_timeout, retry_window)


def milliseconds(seconds: float) -> str:
    """A duration as PostgreSQL takes it for a setting.

    Args:
        seconds: the duration.
    """
    return f"{round(seconds * 1000)}ms"


def duration_text(seconds: float) -> str:
    """A duration as a person reads it, such as `1.5 s` or `12 min`.

    Args:
        seconds: the duration.
    """
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _duration(variable: str, text: str, least: float) -> float:
    match = re.fullmatch(rf"(\d+(?:\.\d+)?) ?({'|'.join(UNITS)})", text.strip())
    seconds = float(match[1]) * UNITS[match[2]] if match else -1.0
    if not least <= seconds <= LONGEST:
        raise ConfigurationError(
            f"{variable} is {text!r}: write a number with its unit, such as 500ms, 30s, 5min or 1h, from "
            f"{'1ms' if least else '0s'} to 24h."
        )
    return seconds
