"""Errors of PostgreSQL: their codes, what went wrong in a line, and the error to raise for each."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError

from safe_migrations.errors import ConfigurationError, ConnectionFailedError, LockedError, MigrationError
from safe_migrations.postgres.database import Database
from safe_migrations.postgres.sql import qualified
from safe_migrations.postgres.timeouts import CONNECT_TIMEOUT
from safe_migrations.printable import printable
from safe_migrations.service import Service

# PostgreSQL's error codes, see https://www.postgresql.org/docs/current/errcodes-appendix.html
LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED, SERIALIZATION_FAILURE = "55P03", "40P01", "40001"
QUERY_CANCELED, INSUFFICIENT_PRIVILEGE, READ_ONLY = "57014", "42501", "25006"
DEPENDENT_OBJECTS = "2BP01"
VIOLATIONS = ("23502", "23503", "23505", "23514")  # NOT NULL, foreign key, unique, check
SERVER_TROUBLE = ("53", "58")  # classes of errors: no disk space, memory or connection; a failure of the system
RETRIED = (LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED, SERIALIZATION_FAILURE)
# Errors about the schema, the statement or the server, whose DETAIL and HINT hold no values of rows: dependent objects,
# something not supported or not ready, an object in use, a missing file of the server, and all of class 42.
_WITHOUT_VALUES = (DEPENDENT_OBJECTS, "0A000", "55000", "55006", "58P01")
_REFUSALS = ("08", "28", "3D", "53", "57")  # classes of errors with which PostgreSQL refuses a connection


def explain(error: OSError | UnicodeError | DBAPIError, database: Database) -> MigrationError:
    """The error to raise for a connection or a statement that failed: what happened, and how to correct it.

    Args:
        database: where the connection went, or was to go; its password is not shown.
    """
    address, settings = database.host, database.service.settings
    if isinstance(error, ConnectionError) and "SSL" in str(error):
        return ConnectionFailedError(
            f"The server at {address} offers no TLS. Turn TLS on there, or remove sslmode from {settings}. Without "
            "sslmode, the program that answers is not PostgreSQL, but for example a proxy: correct the address."
        )
    if not isinstance(error, DBAPIError):
        return ConnectionFailedError(
            f"PostgreSQL does not answer at {address} ({_network_reason(error)}). Correct {settings}, or start "
            "PostgreSQL; for development:\nsafe-migrations db-up"
        )
    if is_disconnect(error):
        return ConnectionFailedError(
            f"The connection to PostgreSQL at {address} was lost ({reason(error)}). What was not committed is rolled "
            "back. When PostgreSQL answers, run the same command again."
        )
    return _explain_refusal(error, database)


def _explain_refusal(error: DBAPIError, database: Database) -> MigrationError:
    address, user, settings = database.host, database.url.username, database.service.settings
    match sqlstate(error):
        case "28P01":
            return ConnectionFailedError(
                f"PostgreSQL at {address} refused the password of the user {user!r}. Correct {settings}."
            )
        case "3D000":
            return ConnectionFailedError(
                f"PostgreSQL at {address} has no database {database.name!r}. Correct {settings}, or create the "
                "database; for development:\nsafe-migrations db-up"
            )
        case "42501":
            return MigrationError(
                f"The user {user!r} lacks a privilege ({reason(error)}). Grant the privilege to the user, or connect "
                f"as the owner ({database.service.migration_url})."
            )
        case "55P03":
            return LockedError(
                "A lock was not free within MIGRATION_LOCK_TIMEOUT. Wait until the blocking session ends, then run the "
                "same command again. To see the blocking sessions:\nsafe-migrations locks"
            )
        case "08P01" | "26000" | "42P05":
            return pooler_refused(database.service, reason(error))
        case state:
            kind = ConnectionFailedError if (state or "").startswith(_REFUSALS) else MigrationError
            return kind(
                f"PostgreSQL at {address} reported an error ({reason(error)}). Correct the cause, or {settings}."
            )


@contextmanager
def explained(database: Database) -> Iterator[None]:
    """Raise what `explain` makes of an error."""
    try:
        yield
    except (DBAPIError, ConnectionError, TimeoutError) as error:
        raise explain(error, database) from error


def pooler_refused(service: Service, why: str) -> ConfigurationError:
    """The error for a connection through a pooler in transaction mode, which loses session locks and settings."""
    return ConfigurationError(
        f"The connection goes through a pooler ({why}), which loses the locks and settings of a session. Set "
        f"{service.migration_url} to a URL that connects to PostgreSQL directly."
    )


def sqlstate(error: BaseException) -> str | None:
    """PostgreSQL's code for an error, see https://www.postgresql.org/docs/current/errcodes-appendix.html

    Args:
        error: what was raised; None is returned for what does not come from PostgreSQL.
    """
    return getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None


def is_disconnect(error: BaseException) -> bool:
    """Whether the connection is gone."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    return isinstance(error, ConnectionError | TimeoutError)


def reason(error: BaseException) -> str:
    """What went wrong, in one line without a full stop, and without values of rows.

    The text includes PostgreSQL's DETAIL and HINT where these hold no values, such as the names of dependent objects.
    """
    if isinstance(error, DBAPIError):
        cause = _cause(error)
        text = str(getattr(cause, "message", None) or cause).partition("\nDETAIL:")[0]
        if more := "; ".join(_detail_and_hint(sqlstate(error) or "", cause)):
            text = f"{text.rstrip('.')} ({more})"
    elif isinstance(error, MigrationError | OSError):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    return printable(" ".join(text.split())).rstrip(".") or type(error).__name__


def duplicates_query(error: BaseException) -> str | None:
    """The query for the keys that a new unique index finds in several rows; None for another error."""
    cause = _cause(error) if isinstance(error, DBAPIError) else None
    key = re.match(r"Key \((.+?)\)=\((.*)\) is duplicated", getattr(cause, "detail", None) or "", re.DOTALL)
    if key is None:
        return None
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    table = qualified(dialect, getattr(cause, "schema_name", None), getattr(cause, "table_name", None))
    # NULL is a duplicate only of an index with NULLS NOT DISTINCT.
    where = "" if "null" in key[2] else f" WHERE ({key[1]}) IS NOT NULL"
    return printable(f"SELECT {key[1]}, count(*) FROM {table}{where} GROUP BY {key[1]} HAVING count(*) > 1;")  # noqa: S608


def _cause(error: DBAPIError) -> BaseException | None:
    """The driver's own error: SQLAlchemy puts the class before the message."""
    return getattr(error.orig, "__cause__", None) or error.orig


def _detail_and_hint(state: str, cause: BaseException | None) -> Iterator[str]:
    if state in _WITHOUT_VALUES or state.startswith("42"):
        # The hint for dependent objects is to drop them too.
        for part in ("detail",) if state == DEPENDENT_OBJECTS else ("detail", "hint"):
            if text := getattr(cause, part, None):
                yield "; ".join(str(text).rstrip(".").splitlines())


def _network_reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT:g} s"
    return getattr(error, "strerror", None) or str(error)
