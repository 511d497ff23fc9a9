"""The connection of a run without a database: statements are recorded, and their results are unknown."""

import re
from collections.abc import Callable
from typing import Any, Protocol

from sqlalchemy import Dialect
from sqlalchemy.engine.mock import MockConnection
from sqlalchemy.exc import SQLAlchemyError

from safe_migrations.lint.unknown import Unknown

_CONNECTIONS = {"begin", "begin_nested", "connection", "sync_connection", "get_bind"}
_HARMLESS = {"commit", "rollback", "close", "flush", "in_nested_transaction", "info"}
_RESULTS = {"scalar", "scalars"}


def _without_places(text: str) -> str:
    """A text of the driver's, with PostgreSQL's own parameters."""
    listed = re.sub(r"\bIN %(?:s|\(\w+\)s)", "IN ($1)", text, flags=re.IGNORECASE)
    return re.sub(r"%(?:s|\(\w+\)s)", "$1", listed).replace("%%", "%")


class Recorder(Protocol):
    """What notes the statements and the problems of a run."""

    def uses(self, what: str) -> None:
        """Note that the revision uses what only a database has."""

    def unseen(self, what: str) -> None:
        """Note that lint has not seen a statement."""

    def write_without_values(self, statement: Any, reason: str) -> None:
        """Record a statement whose values can't be written."""


class Connection(MockConnection):
    """A connection, an engine, or a session, of sync or async code.

    Args:
        dialect: PostgreSQL's.
        write: writes a statement.
        recorder: notes what is used.
    """

    def __init__(self, dialect: Dialect, write: Callable[[Any], Any], recorder: Recorder) -> None:
        super().__init__(dialect, write)
        self._recorder = recorder

    def execute(self, obj: Any, *parameters: Any, **_options: Any) -> Any:
        """Record a statement; the result is unknown."""
        if isinstance(obj, Unknown):
            self._recorder.unseen("a statement made of the result of a query")
            return self.result()
        if any(parameters) and not isinstance(obj, str):
            self._recorder.write_without_values(obj, "the parameters of a statement")
            return self.result()
        try:
            self._execute_impl(_without_places(obj) if isinstance(obj, str) and parameters else obj)
        except SQLAlchemyError as error:
            self._recorder.write_without_values(obj, f"{type(error).__name__}: {error}".splitlines()[0])
        return self.result()

    def exec_driver_sql(self, statement: str, *parameters: Any, **_options: Any) -> Any:
        """Record a text of the driver's."""
        return self.execute(statement.replace(":", r"\:"), *parameters)

    def run_sync(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a function with the connection."""
        return function(self, *arguments, **options)

    def result(self, used: str = "") -> Unknown:
        """A result, of which the first use is noted."""
        if used:
            self._recorder.uses(used)
        return Unknown(lambda what: self._recorder.uses(f"the result of a query: {what}"))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "in_transaction":  # by the latter, Alembic knows that it writes a script
            raise AttributeError(name)
        self._recorder.uses(f"the connection: {name}")
        if name in _CONNECTIONS:
            return self
        if name in _RESULTS:
            return lambda *arguments, **options: self.execute(*arguments, **options)
        if name not in _HARMLESS:
            self._recorder.unseen(f"the connection: {name}")
        return Unknown()

    def __call__(self, *_arguments: Any, **_options: Any) -> "Connection":
        return self

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_error: object) -> None:
        return None

    async def __aenter__(self) -> "Connection":
        return self

    async def __aexit__(self, *_error: object) -> None:
        return None

    def __await__(self) -> Any:
        return self
        yield
