"""Which session blocks which, and ending a blocking session.

See https://www.postgresql.org/docs/current/monitoring-locks.html
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from safe_migrations.errors import MigrationError
from safe_migrations.postgres.catalog import Session, prepared_transactions, sessions
from safe_migrations.postgres.connection import APPLICATION_NAME
from safe_migrations.postgres.sql import read_sql
from safe_migrations.printable import printable
from safe_migrations.prompt import confirm

_SQL = read_sql(__package__, "sessions.sql")


@dataclass(frozen=True)
class Node:
    """A session in a tree of waiting sessions.

    Attributes:
        session: the session.
        lock: the lock that the session waits for; None for the root of a tree, which waits for no lock.
        waiting: the sessions that wait for this session.
    """

    session: Session
    lock: str | None
    waiting: "tuple[Node, ...]"

    def lines(self, depth: int = 0) -> Iterator[str]:
        """One line for each session, a waiting session below its blocking session."""
        wait = f", waits for {printable(self.lock)}" if self.lock else ""  # the lock has the name of a table
        yield f"{'   ' * (depth - 1)}{'└─ ' if depth else ''}{self.session}{wait}"
        for node in self.waiting:
            yield from node.lines(depth + 1)


def waits(connection: Connection) -> list[tuple[int, int, str | None]]:
    """The waiting sessions of the server: pid of the waiting session, pid of the blocking session, and the lock."""
    return [(row.pid, row.blocker, row.lock) for row in connection.execute(_SQL["waits"])]


def blocking_sessions(connection: Connection) -> list[Session]:
    """The sessions of this database that block another session, are idle in transaction, or hold an advisory lock;
    and its prepared transactions, which keep their locks. A running migration counts only where it blocks a session.
    """
    running = sessions(
        connection, [pid for pid in connection.scalars(_SQL["blocking"], {"own": APPLICATION_NAME}) if pid]
    )
    return running + prepared_transactions(connection)


def lock_trees(connection: Connection) -> list[Node]:
    """The blocking sessions of the server, each with the sessions that wait for it; then `blocking_sessions`."""
    locks: dict[int, str | None] = {}
    blockers: defaultdict[int, list[int]] = defaultdict(list)
    for waiting, blocker, lock in waits(connection):
        locks[waiting] = lock
        blockers[waiting].append(blocker)
    followers: defaultdict[int, list[int]] = defaultdict(list)
    for waiting, several in blockers.items():
        # A session in a queue waits for all sessions before it; it is shown below the session that waits for no lock.
        followers[min(several, key=lambda pid: pid in locks)].append(waiting)
    known = {session.pid: session for session in reversed(sessions(connection, sorted({*locks, *followers})))}
    shown: set[int] = set()

    def node(pid: int) -> Node:
        shown.add(pid)
        below = [node(follower) for follower in followers[pid] if follower not in shown]
        return Node(known[pid], locks.get(pid), tuple(below))

    # In a deadlock every session waits: the tree begins with any of them.
    roots = sorted({*followers}, key=lambda pid: pid in locks)
    trees = [node(pid) for pid in roots if pid not in shown]
    return trees + [Node(session, None, ()) for session in blocking_sessions(connection) if session.pid not in shown]


def terminate(connection: Connection, pid: int, *, yes: bool) -> str:
    """End a session of this database, after a confirmation; PostgreSQL rolls its transaction back.

    Returns:
        A sentence for the user.

    Raises:
        MigrationError: there is no such session, it is of another database, or it is a prepared transaction.
        NotConfirmedError: the user did not agree.
    """
    if pid == 0 and (prepared := prepared_transactions(connection)):
        raise MigrationError(
            f"A prepared transaction has no session to end. To end the transaction{prepared[0].how_to_end}"
        )
    matching = [session for session in sessions(connection, [pid]) if session.user is not None]  # `since` may be hidden
    if not matching or pid == connection.scalar(select(func.pg_backend_pid())):
        raise MigrationError(f"There is no session with pid {pid}. To list the sessions:\nsafe-migrations locks")
    if not connection.scalar(_SQL["is_of_this_database"], {"pid": pid}):
        raise MigrationError(
            f"{matching[0]} belongs to another database. Nothing was ended. Run the same command for that database."
        )
    confirm(f"This ends {matching[0]}: its transaction is rolled back.", "End the session", yes=yes)
    if not connection.scalar(select(func.pg_terminate_backend(pid))):
        raise MigrationError(f"The session with pid {pid} has already ended.")
    return f"The session with pid {pid} was ended."
