"""Replication lag."""

import time

from sqlalchemy import Connection, text

# A standby that this user may not see has no state; a client that does not replay has no replay_lsn.
_HIDDEN = text("SELECT EXISTS (SELECT FROM pg_stat_replication WHERE state IS NULL)")
_SLOWEST = text("""
    SELECT application_name AS name, coalesce(extract(epoch FROM replay_lag), 0)::float8 AS lag,
      replay_lsn - pg_lsn '0/0' AS replayed, pg_current_wal_lsn() - pg_lsn '0/0' AS written
    FROM pg_stat_replication WHERE replay_lsn < pg_current_wal_lsn() ORDER BY replay_lsn LIMIT 1
""")


def are_hidden(connection: Connection) -> bool:
    """Whether there are standbys that this user may not see."""
    return bool(connection.scalar(_HIDDEN))


class Lag:
    """The replication lag of the slowest standby.

    PostgreSQL's `replay_lag` does not change while a standby does not replay. So this measures how long a position in
    the WAL takes to be replayed, as pt-heartbeat does with a table.
    """

    def __init__(self) -> None:
        self._written, self._noted = -1, 0.0

    def measure(self, connection: Connection) -> tuple[str, float]:
        """The name of the slowest standby, and its lag in seconds; 0 without lag."""
        slowest = connection.execute(_SLOWEST).first()
        if slowest is None:
            return "", 0.0
        if slowest.replayed >= self._written:
            self._written, self._noted = slowest.written, time.monotonic()
        return slowest.name, max(slowest.lag, time.monotonic() - self._noted)
