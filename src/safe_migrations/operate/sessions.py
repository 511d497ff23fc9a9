"""Who blocks whom now, and ending a session that is in the way.

See https://www.postgresql.org/docs/current/monitoring-locks.html
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text

from safe_migrations.errors import MigrationError
from safe_migrations.postgres.catalog import Session, sessions
from safe_migrations.prompt import confirm

_WAITS = """
    SELECT a.pid, b.pid AS blocker, l.mode || ' on ' || CASE
        WHEN l.relation IS NULL THEN 'a ' || l.locktype
        WHEN a.datname = current_database() THEN l.relation::regclass::text
        ELSE 'a table of another database' END AS lock
    FROM pg_stat_activity a CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS b (pid)
    LEFT JOIN pg_locks l ON l.pid = a.pid AND NOT l.granted
    ORDER BY 1, 2
"""

# Whoever stands in somebody's way now, or would stand in a migration's: an open transaction keeps its locks, another
# migration the one that all of them need.
_IN_THE_WAY = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND (
      state LIKE 'idle in transaction%'
      OR pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted)
      OR pid IN (SELECT unnest(pg_blocking_pids(w.pid)) FROM pg_locks w WHERE NOT w.granted)
    )
    ORDER BY xact_start
"""


@dataclass(frozen=True)
class Node:
    """A session in the tree of those that wait.

    Attributes:
        session: it.
        lock: what it waits for; None for the root of a tree, which waits for nobody.
        waiting: those that wait for it.
    """

    session: Session
    lock: str | None
    waiting: "tuple[Node, ...]"

    def lines(self, depth: int = 0) -> Iterator[str]:
        """For people: one line for each session, those that wait below the one that they wait for."""
        wait = f", waits for {self.lock}" if self.lock else ""
        yield f"{'   ' * (depth - 1)}{'└─ ' if depth else ''}{self.session}{wait}"
        for node in self.waiting:
            yield from node.lines(depth + 1)


def waits(connection: Connection) -> list[tuple[int, int, str | None]]:
    """Who waits for whom now, on the whole server: pid of the one that waits, pid of the other, and the lock.

    Args:
        connection: to the server.
    """
    return [(row.pid, row.blocker, row.lock) for row in connection.execute(text(_WAITS))]


def sessions_in_the_way(connection: Connection) -> list[Session]:
    """The sessions of this database that others wait for, that have left a transaction open, or that migrate.

    Args:
        connection: to the database.
    """
    return sessions(connection, connection.scalars(text(_IN_THE_WAY)).all())


def lock_trees(connection: Connection) -> list[Node]:
    """The sessions of the server that block others, each with those that wait for it; then those that may do so.

    Args:
        connection: to the server.
    """
    locks: dict[int, str | None] = {}
    blockers: defaultdict[int, list[int]] = defaultdict(list)
    for waiting, blocker, lock in waits(connection):
        locks[waiting] = lock
        blockers[waiting].append(blocker)
    followers: defaultdict[int, list[int]] = defaultdict(list)
    for waiting, several in blockers.items():
        # Who waits in a queue waits for all before it as well; it stands below the one that nobody keeps waiting.
        followers[min(several, key=lambda pid: pid in locks)].append(waiting)
    known = {session.pid: session for session in sessions(connection, sorted({*locks, *followers}))}
    shown: set[int] = set()

    def node(pid: int) -> Node:
        shown.add(pid)
        below = [node(each) for each in followers[pid] if each not in shown]
        return Node(known[pid], locks.get(pid), tuple(below))

    # A deadlock has no session that waits for nobody: there the tree begins with any of them.
    roots = sorted({*followers}, key=lambda pid: pid in locks)
    trees = [node(pid) for pid in roots if pid not in shown]
    return trees + [Node(each, None, ()) for each in sessions_in_the_way(connection) if each.pid not in shown]


def terminate(connection: Connection, pid: int, *, yes: bool) -> str:
    """End a session of this database, after asking; PostgreSQL rolls its transaction back.

    Args:
        connection: to the database.
        pid: of the session's process.
        yes: whether somebody has agreed already.

    Returns:
        What was done, as a sentence.

    Raises:
        MigrationError: there is no such session, or nobody has agreed.
    """
    found = [session for session in sessions(connection, [pid]) if session.user is not None]  # since when may be hidden
    if not found or pid == connection.scalar(select(func.pg_backend_pid())):
        raise MigrationError(f"There is no session with pid {pid}: safe-migrations locks shows those there are.")
    confirm(f"This ends {found[0]}: its transaction is rolled back.", "End it", yes=yes, how="--yes")
    if not connection.scalar(select(func.pg_terminate_backend(pid))):
        raise MigrationError(f"The session with pid {pid} has ended by itself.")
    return f"The session with pid {pid} is ended."
