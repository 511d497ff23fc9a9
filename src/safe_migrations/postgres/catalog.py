"""Tables, indexes and sessions, from PostgreSQL's catalogs and statistics views."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, TableClause, func, select, table, text

from safe_migrations.postgres.sql import read_sql
from safe_migrations.postgres.timeouts import duration_text
from safe_migrations.printable import printable


@dataclass(frozen=True)
class Session:
    """A session of the server, from pg_stat_activity; None for what this user may not see.

    Attributes:
        pid: of its process on the server; 0 for a prepared transaction, whose `query` is the statement that
            ends it.
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

    @property
    def fields(self) -> dict[str, Any]:
        """The session's fields in a JSON log line."""
        return {
            "pid": self.pid,
            "user": self.user,
            "application": self.application,
            "client": self.client,
            "state": self.state,
            "seconds": self.age,
            "query": self.query,
        }

    @property
    def how_to_end(self) -> str:
        """The command that ends it, and where to run it."""
        if self.pid == 0:
            return f", in psql (safe-migrations db-shell):\n{printable(self.query)}"
        return f":\nsafe-migrations locks --terminate {self.pid}"

    def __str__(self) -> str:
        if self.pid == 0:
            age = "" if self.age is None else f" for {duration_text(self.age)}"
            return printable(f"a prepared transaction of user {self.user}{age}; to end it: {self.query}")
        who = f"user {self.user}, application {self.application or 'without a name'}"
        if self.client:
            who += f" at {self.client}"
        age = "" if self.age is None else f" for {duration_text(self.age)}"
        return printable(f"pid {self.pid} ({who}, {self.state or 'state hidden'}{age}): {self.query or 'no statement'}")


@dataclass(frozen=True)
class InvalidIndex:
    """An index that writes maintain and no query uses, left by a failed concurrent build.

    Attributes:
        name: with its schema, quoted where necessary.
        table: with its schema, quoted where necessary.
        bare_name: as in the catalog.
        replaced: the names of the indexes that a rebuild was to replace by this one, or has replaced, and of the
            partitioned indexes that these belong to.
    """

    name: str
    table: str
    bare_name: str
    replaced: frozenset[str] = frozenset()

    @property
    def base_name(self) -> str:
        """The name without the suffix that REINDEX CONCURRENTLY appends to a new or a replaced index."""
        return re.sub(r"_cc(new|old)\d*$", "", self.bare_name)


# Names are matched as well, because a quote in a name begins no literal; comments may hold anything.
_LITERAL = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|$)|(?P<name>"(?:[^"]|"")*(?:"|$))"""
    r"""|[eE]'(?:[^'\\]|\\.|'')*(?:'|$)|'(?:[^']|'')*(?:'|$)|\$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|$)"""
    r"""|(?<![\w$])\d[\w.]*""",
    re.DOTALL,
)
_QUERY_LENGTH = 100  # characters
_SQL = read_sql(__package__, "catalog.sql")


def version_table(options: Mapping[str, Any]) -> tuple[str | None, str]:
    """Alembic's version table, by the options of `context.configure`: its schema if they name one, and its name."""
    return options.get("version_table_schema"), options.get("version_table", "alembic_version")


def own_relations(connection: Connection, options: Mapping[str, Any], kinds: str = "rpvmf") -> list[str]:
    """The tables and views of the database except Alembic's own, with their schemas.

    Args:
        kinds: the kinds of relations, as in pg_class; by default tables, views and foreign tables.
    """
    schema, name = version_table(options)
    return list(connection.scalars(_SQL["own_relations"], {"schema": schema, "table": name, "kinds": list(kinds)}))


def find_table(connection: Connection, name: str) -> TableClause | None:
    """A table or view, to build a query on; None if there is none.

    Args:
        name: as SQL has it: with a schema or from the search path, and quoted where necessary.
    """
    row = connection.execute(_SQL["relation"], {"name": name}).first()
    return None if row is None else table(row.relname, schema=row.nspname)


def hides_rows(connection: Connection, name: str) -> bool:
    """Whether row security applies to what this user reads of a table, so that a count says nothing.

    Args:
        name: of an existing table, as SQL has it.
    """
    return bool(connection.scalar(text("SELECT row_security_active(to_regclass(:name))"), {"name": name}))


def count_up_to(connection: Connection, rows: Select[Any], limit: int) -> int:
    """The number of rows of a query, counted up to one more than the limit."""
    return connection.scalar(select(func.count()).select_from(rows.limit(limit + 1).subquery())) or 0


def invalid_indexes(connection: Connection) -> list[InvalidIndex]:
    """The invalid indexes that failed concurrent builds and rebuilds have left."""
    rows = connection.execute(_SQL["invalid_indexes"])
    return [InvalidIndex(row.name, row.owner, row.relname, frozenset(row.replaced)) for row in rows]


def transactions_of_index(connection: Connection, name: str, table: str | None, *, readers: bool) -> Mapping[str, int]:
    """The transactions that have used the table of an index, and the pids of their sessions, 0 for a prepared one.

    Args:
        name: the index's, as SQL has it.
        table: its table's, as SQL has it; None for an index that exists.
        readers: whether transactions that have only read count.
    """
    parameters = {"name": name, "table": table, "readers": readers}
    return {row.virtualtransaction: row.pid for row in connection.execute(_SQL["transactions_of_index"], parameters)}


def blockers(connection: Connection, pid: int) -> list[Session]:
    """The sessions that block a session, see pg_blocking_pids().

    Args:
        connection: to the same server, but not of that session.
    """
    return sessions(connection, connection.scalar(text("SELECT pg_blocking_pids(:pid)"), {"pid": pid}) or [])


def advisory_lock_holders(connection: Connection, key: int) -> list[Session]:
    """The other sessions that hold an advisory lock of this database."""
    return sessions(connection, connection.scalars(_SQL["advisory_lock_holders"], {"key": key}).all())


def sessions(connection: Connection, pids: Sequence[int]) -> list[Session]:
    """Sessions of the server.

    Args:
        pids: of their processes; a session that has ended in the meantime has no details.
    """
    if not pids:
        return []
    rows = connection.execute(_SQL["sessions"], {"pids": [pid for pid in pids if pid]})
    running = [
        Session(
            row.pid, row.usename, row.application_name, row.state, row.age, mask(row.query or ""), row.since, row.client
        )
        for row in rows
    ]
    return running + (prepared_transactions(connection) if 0 in pids else [])


def prepared_transactions(connection: Connection) -> list[Session]:
    """The prepared transactions of this database, which keep their locks without a session.

    See https://www.postgresql.org/docs/current/view-pg-prepared-xacts.html
    """
    rows = connection.execute(_SQL["prepared_transactions"])
    return [Session(0, row.owner, None, None, row.age, row.command, row.since, None) for row in rows]


def mask(query: str) -> str:
    """A statement without its literals, which may be secrets, shortened to a line.

    Args:
        query: from pg_stat_activity, which may have cut it off.
    """
    masked = " ".join(_LITERAL.sub(lambda match: match["name"] or "'…'", query).split()).rstrip("; ")
    return masked if len(masked) <= _QUERY_LENGTH else f"{masked[:_QUERY_LENGTH]}…"
