"""Who blocks whom now, and ending a session that is in the way.

See https://www.postgresql.org/docs/current/monitoring-locks.html
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from safe_migrations.catalog import Session, sessions, waits
from safe_migrations.confirm import confirm
from safe_migrations.errors import MigrationError


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


def lock_trees(connection: Connection) -> list[Node]:
    """The sessions of the server that block others, each with those that wait for it.

    Args:
        connection: to the server.
    """
    edges = waits(connection)
    locks = {waiting: lock for waiting, _, lock in edges}
    followers: defaultdict[int, list[int]] = defaultdict(list)
    for waiting, blocker, _ in edges:
        followers[blocker].append(waiting)
    known = {session.pid: session for session in sessions(connection, sorted({*locks, *followers}))}

    def node(pid: int, above: tuple[int, ...] = ()) -> Node:
        below = [each for each in followers[pid] if each not in (*above, pid)]  # a deadlock goes round in circles
        return Node(known[pid], locks.get(pid), tuple(node(each, (*above, pid)) for each in below))

    roots = [pid for pid in followers if pid not in locks] or sorted(followers)[:1]
    return [node(pid) for pid in roots]


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
    found = [session for session in sessions(connection, [pid]) if session.since is not None]
    if not found or pid == connection.scalar(select(func.pg_backend_pid())):
        raise MigrationError(
            f"There is no session with pid {pid}: python -m safe_migrations locks shows those there are."
        )
    confirm(f"This ends {found[0]}: its transaction is rolled back.", "End it", yes=yes, how="--yes")
    if not connection.scalar(select(func.pg_terminate_backend(pid))):
        raise MigrationError(f"The session with pid {pid} has ended by itself.")
    return f"The session with pid {pid} is ended."
