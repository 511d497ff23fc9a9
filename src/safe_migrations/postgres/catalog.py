"""What PostgreSQL tells of tables, indexes and sessions, in its catalogs and statistics views."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, TableClause, table, text

from safe_migrations.postgres.timeouts import duration_text


@dataclass(frozen=True)
class Session:
    """A session of the server, from pg_stat_activity; what this user may not see is None.

    Attributes:
        pid: of its process on the server; 0 stands for a prepared transaction.
        age: of its transaction, else of the session, in seconds.
        query: its last statement, shortened, without literals.
        since: when the session began.
        client: its address; None on a socket of the server's machine.
    """

    pid: int
    user: str | None
    application: str | None
    state: str | None
    age: float | None
    query: str
    since: str | None
    client: str | None

    def __str__(self) -> str:
        if self.pid == 0:
            return "a prepared transaction (see pg_prepared_xacts)"
        who = f"user {self.user}, application {self.application or 'without a name'}"
        if self.client:
            who += f" at {self.client}"
        age = "" if self.age is None else f" for {duration_text(self.age)}"
        return f"pid {self.pid} ({who}, {self.state or 'state hidden'}{age}): {self.query or 'no statement'}"


@dataclass(frozen=True)
class InvalidIndex:
    """An index that is kept up to date, but that no query uses; what a concurrent build leaves when it fails.

    Attributes:
        name: with its schema, quoted where necessary.
        table: likewise.
        bare_name: as it stands in the catalog.
    """

    name: str
    table: str
    bare_name: str

    @property
    def base_name(self) -> str:
        """Without what REINDEX CONCURRENTLY appends to the index that it builds, or to the one that it replaces."""
        return re.sub(r"_cc(new|old)\d*$", "", self.bare_name)


# Members of extensions are theirs; temporary tables are some session's; safe_migrations has the progress of backfills.
_OWN_RELATIONS = """
    SELECT format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_'
      AND n.nspname NOT IN ('information_schema', 'safe_migrations')
      AND NOT (c.relname = :table AND n.nspname = coalesce(:schema, n.nspname))
      AND NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
      )
    ORDER BY 1
"""

_RELATION = """
    SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = to_regclass(:name)
"""

# Not one that some session is building now. Not the index of a partitioned table either, which is invalid just until
# each partition has its own.
_INVALID_INDEXES = """
    SELECT format('%I.%I', n.nspname, i.relname) AS name, x.indrelid::regclass::text AS owner, i.relname
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
    WHERE NOT x.indisvalid AND i.relkind = 'i' AND n.nspname !~ '^pg_(toast|temp)'
      AND NOT EXISTS (
        SELECT FROM pg_stat_progress_create_index p JOIN pg_locks l USING (pid)
        WHERE l.relation = x.indrelid AND l.mode = 'ShareUpdateExclusiveLock'
      )
    ORDER BY 1
"""

# A lock on a bigint is two halves in pg_locks, see https://www.postgresql.org/docs/current/view-pg-locks.html
_ADVISORY_LOCK_HOLDERS = """
    SELECT pid FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid <> pg_backend_pid()
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (classid::bigint << 32) | objid::bigint = :key
"""

_SESSIONS = """
    SELECT p.pid, a.usename, a.application_name, a.state,
      extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.backend_start))::float8 AS age, a.query,
      to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ') AS since,
      host(a.client_addr) AS client
    FROM unnest(CAST(:pids AS integer[])) AS p (pid) LEFT JOIN pg_stat_activity a ON a.pid = p.pid
"""

# Names are looked at as well, because a quote in one of them begins no literal; comments may hold anything.
_LITERAL = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|$)|(?P<name>"(?:[^"]|"")*(?:"|$))"""
    r"""|[eE]'(?:[^'\\]|\\.|'')*(?:'|$)|'(?:[^']|'')*(?:'|$)|\$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|$)"""
    r"""|(?<![\w$])\d[\w.]*""",
    re.DOTALL,
)
_QUERY_LENGTH = 100  # characters


def own_relations(connection: Connection, options: Mapping[str, Any]) -> list[str]:
    """The tables and views of the database besides Alembic's own, with their schemas.

    Args:
        connection: to the database.
        options: what `context.configure` takes, for the version table's name.
    """
    names = {"table": options.get("version_table", "alembic_version"), "schema": options.get("version_table_schema")}
    return list(connection.scalars(text(_OWN_RELATIONS), names))


def find_table(connection: Connection, name: str) -> TableClause | None:
    """A table or view, to build a query on; None if there is none.

    Args:
        connection: to the database.
        name: as SQL has it: with a schema or from the search path, and quoted where necessary.
    """
    found = connection.execute(text(_RELATION), {"name": name}).first()
    return None if found is None else table(found.relname, schema=found.nspname)


def invalid_indexes(connection: Connection) -> list[InvalidIndex]:
    """The indexes that a failed concurrent build or rebuild has left.

    Args:
        connection: to the database.
    """
    rows = connection.execute(text(_INVALID_INDEXES))
    return [InvalidIndex(row.name, row.owner, row.relname) for row in rows]


def blockers(connection: Connection, pid: int) -> list[Session]:
    """Who stands in a session's way, see pg_blocking_pids().

    Args:
        connection: to the same server, not that session's own.
        pid: of the session that waits.
    """
    return sessions(connection, connection.scalar(text("SELECT pg_blocking_pids(:pid)"), {"pid": pid}) or [])


def advisory_lock_holders(connection: Connection, key: int) -> list[Session]:
    """The other sessions that hold an advisory lock of this database.

    Args:
        connection: to the database.
        key: the lock's.
    """
    return sessions(connection, connection.scalars(text(_ADVISORY_LOCK_HOLDERS), {"key": key}).all())


def sessions(connection: Connection, pids: Sequence[int]) -> list[Session]:
    """What the server tells of sessions.

    Args:
        connection: to the server.
        pids: of their processes; one that has ended in the meantime is told without details.
    """
    if not pids:
        return []
    rows = connection.execute(text(_SESSIONS), {"pids": list(pids)})
    return [
        Session(
            row.pid, row.usename, row.application_name, row.state, row.age, mask(row.query or ""), row.since, row.client
        )
        for row in rows
    ]


def mask(query: str) -> str:
    """A statement without what its literals hold, which may be secrets, and no longer than a line.

    Args:
        query: from pg_stat_activity, which may have cut it off.
    """
    masked = " ".join(_LITERAL.sub(lambda match: match["name"] or "'…'", query).split()).rstrip("; ")
    return masked if len(masked) <= _QUERY_LENGTH else f"{masked[:_QUERY_LENGTH]}…"
