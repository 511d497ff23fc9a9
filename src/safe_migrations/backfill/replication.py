"""How far standbys are behind."""

import time

from sqlalchemy import Connection, text

# What this user may not see has no state; what does not replay has no replay_lsn.
_HIDDEN = text("SELECT EXISTS (SELECT FROM pg_stat_replication WHERE state IS NULL)")
_SLOWEST = text("""
    SELECT application_name AS name, coalesce(extract(epoch FROM replay_lag), 0)::float8 AS lag,
      replay_lsn - pg_lsn '0/0' AS replayed, pg_current_wal_lsn() - pg_lsn '0/0' AS written
    FROM pg_stat_replication WHERE replay_lsn < pg_current_wal_lsn() ORDER BY replay_lsn LIMIT 1
""")


def are_hidden(connection: Connection) -> bool:
    """Whether there are standbys of which this user may see nothing.

    Args:
        connection: to the primary.
    """
    return bool(connection.scalar(_HIDDEN))


class Lag:
    """How far the slowest standby is behind.

    PostgreSQL's `replay_lag` stays as it was when a standby stops to replay. So what was written at some time is noted,
    and how long it takes to be replayed, as pt-heartbeat does in a table.
    """

    def __init__(self) -> None:
        self._written, self._noted = -1, 0.0

    def measure(self, connection: Connection) -> tuple[str, float]:
        """The standby that is furthest behind, and by how many seconds; 0 if none is.

        Args:
            connection: to the primary.
        """
        slowest = connection.execute(_SLOWEST).first()
        if slowest is None:
            return "", 0.0
        if slowest.replayed >= self._written:
            self._written, self._noted = slowest.written, time.monotonic()
        return slowest.name, max(slowest.lag, time.monotonic() - self._noted)
