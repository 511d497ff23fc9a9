"""Executing a text of several statements, as psql and psycopg do.

asyncpg prepares each text that SQLAlchemy executes, and PostgreSQL prepares one statement at a time.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event

from safe_migrations.errors import RevisionError
from safe_migrations.postgres.statements import pattern, split

_PSQL = re.compile(r'(?:"(?:[^"]|"")*+"|[^"\\])*+\\')  # a backslash outside names and literals
_COPY = pattern(r"COPY\b.*\b(?:FROM STDIN|TO STDOUT)\b")


@contextmanager
def several_statements(connection: Connection) -> Iterator[None]:
    """Let the connection execute a text of several statements one by one; the result is that of the last statement.

    Args:
        connection: for any driver; a text with parameters is left to the driver.
    """
    event.listen(connection, "before_cursor_execute", _execute_all_but_last, retval=True, insert=True)
    try:
        yield
    finally:
        event.remove(connection, "before_cursor_execute", _execute_all_but_last)


def _execute_all_but_last(
    connection: Connection, _cursor: Any, text: str, parameters: Any, _context: Any, many: bool
) -> tuple[str, Any]:
    if (
        parameters
        or many
        or connection.dialect.driver != "asyncpg"
        or not re.search(r"[;\\]|\bSTD", text, re.IGNORECASE)
    ):
        return text, parameters
    statements = list(split(text))
    for _, plain in statements:
        _refuse_psql(plain)
    if len(statements) > 1:
        for statement, _ in statements[:-1]:
            connection.exec_driver_sql(statement)
        text = statements[-1][0]
    return text, parameters


def _refuse_psql(plain: str) -> None:
    """Refuse what only psql understands, before a statement of the text is executed."""
    if _PSQL.match(plain):
        what = f"a command of psql (a line that begins with a backslash): {plain[:40]!r}"
    elif _COPY.match(plain):
        what = f"COPY from or to the client: {plain[:60]!r}"
    else:
        return
    raise RevisionError(f"only psql can run {what}; write plain SQL statements, and rows as INSERT")
