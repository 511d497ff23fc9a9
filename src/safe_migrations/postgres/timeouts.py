"""The timeouts of a migration, from the environment; pauses between tries, and reports of what takes long."""

import os
import random
import re
import time
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
CONNECT_TIMEOUT = 10.0  # seconds
MARGIN = 10.0  # seconds; how much later than its timeout the end of a statement may arrive
REPORT = 10.0  # seconds between two reports of what takes long
_RANDOM = random.SystemRandom()


@dataclass(frozen=True)
class Timeouts:
    """How long a migration may take, and how long it may block other sessions; all in seconds.

    Attributes:
        lock_wait: how long to wait for another migration.
        lock_timeout: how long one try waits for a lock on a table. Meanwhile, later readers queue behind it.
        statement_timeout: how long one statement may take; 0 for no limit. Concurrent index builds have none.
        retry_window: how long a revision is retried, from its first try.
    """

    lock_wait: float
    lock_timeout: float
    statement_timeout: float
    retry_window: float

    @property
    def deadline(self) -> float | None:
        """After how many seconds a client gives up a statement that the server should have ended; None for never."""
        return self.statement_timeout + MARGIN if self.statement_timeout else None

    def session_settings(self) -> dict[str, str]:
        """PostgreSQL's settings for a session that migrates.

        See https://www.postgresql.org/docs/current/runtime-config-client.html
        """
        return {
            "lock_timeout": milliseconds(self.lock_timeout),
            "statement_timeout": milliseconds(self.statement_timeout),
            # A role or a database may have other values, which would end a migration, or release its lock.
            "idle_in_transaction_session_timeout": "0ms",
            "idle_session_timeout": "0ms",
        }

    def offline_settings(self) -> dict[str, str]:
        """The settings that an offline script has to set for itself."""
        settings = self.session_settings()
        return {name: settings[name] for name in ("lock_timeout", "statement_timeout")}

    def pause(self, tries: int) -> float:
        """How long to pause before the next try, in seconds: exponential back-off with jitter."""
        return min(self.lock_timeout * 2.0 ** min(tries, 10), LONGEST_PAUSE) * _RANDOM.uniform(0.5, 1)


class ReportTimer:
    """When to report what takes long: every `REPORT` seconds.

    Args:
        first: seconds until the first report, if not as many.
    """

    def __init__(self, first: float | None = None) -> None:
        self._next = time.monotonic() + (REPORT if first is None else first)

    def is_due(self) -> bool:
        """Whether to report now; if so, the next report is due `REPORT` seconds later."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + REPORT
        return True


def load_timeouts(environment: Mapping[str, str] = os.environ) -> Timeouts:
    """Read the timeouts.

    Args:
        environment: the variables; one that is missing or empty has its default.

    Raises:
        ConfigurationError: a value is not a duration, or out of range.
    """
    lock_wait, lock_timeout, statement_timeout, retry_window = (
        _duration(variable, environment.get(variable) or default, least=0.001 if "LOCK_TIMEOUT" in variable else 0)
        for variable, default in DEFAULTS.items()
    )
    return Timeouts(lock_wait, lock_timeout, statement_timeout, retry_window)


def milliseconds(seconds: float) -> str:
    """A duration as PostgreSQL takes it for a setting."""
    return f"{round(seconds * 1000)}ms"


def duration_text(seconds: float) -> str:
    """A duration for messages, such as `1.5 s` or `12 min`."""
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _duration(variable: str, text: str, least: float) -> float:
    match = re.fullmatch(rf"(\d+(?:\.\d+)?) ?({'|'.join(UNITS)})", text.strip())
    seconds = float(match[1]) * UNITS[match[2]] if match else -1.0
    if not least <= seconds <= LONGEST:
        raise ConfigurationError(
            f"{variable} is {text!r}, which is not a duration from {'1ms' if least else '0s'} to 24h; write a number "
            "with its unit, such as 500ms, 30s, 5min or 1h."
        )
    return seconds
