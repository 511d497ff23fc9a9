"""Which transaction a revision runs in, to notice that it has ended the one in which it began."""

from collections.abc import Iterator
from contextlib import contextmanager
from secrets import token_hex
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from safe_migrations.postgres.timeouts import Timeouts

_KEY = "safe_migrations_transaction"
_BEGUN = text("SELECT transaction_timestamp()")
_NAME = f"safe_migrations_{token_hex(8)}"  # which no revision can know
_SAVEPOINT, _UNDO = text(f"SAVEPOINT {_NAME}"), text(f"ROLLBACK TO SAVEPOINT {_NAME}")


def is_of_transaction(context: Any) -> bool:
    """Whether a statement is one of this module."""
    return any(context.invoked_statement is own for own in (_BEGUN, _SAVEPOINT, _UNDO))


class RevisionTransaction:
    """The transaction that a revision runs in.

    Attributes:
        timeouts: of the migration.
        is_suspended: whether an operation that can be repeated has left it, and will begin another one.
        is_blocking: whether that operation runs a statement that blocks other sessions, which must not wait long.
        has_left: whether such an operation is complete, which a roll-back does not undo.
        was_ended: whether the revision itself had ended it before such an operation.
    """

    def __init__(self, connection: Connection, timeouts: Timeouts) -> None:
        self.timeouts = timeouts
        self.is_suspended = self.is_blocking = self.has_left = self.was_ended = False
        connection.info[_KEY] = self
        self.note(connection)

    @classmethod
    def of(cls, connection: Connection) -> "RevisionTransaction | None":
        """What was noted on a connection."""
        noted: RevisionTransaction | None = connection.info.get(_KEY)
        return noted

    @staticmethod
    def forget(connection: Connection) -> None:
        """Note that no transaction of a revision is known on a connection."""
        connection.info.pop(_KEY, None)

    def note(self, connection: Connection) -> None:
        """Note the transaction that the connection is in now."""
        connection.execute(_SAVEPOINT)
        self._begun: Any = connection.scalar(_BEGUN)
        self.has_left |= self.is_suspended
        self.is_suspended = False

    def suspend(self, connection: Connection) -> None:
        """Leave the transaction for an operation that can be repeated."""
        self.was_ended |= not self.is_current(connection)
        self.is_suspended = True

    @contextmanager
    def blocking(self) -> Iterator[None]:
        """Note that the operation blocks other sessions."""
        self.is_blocking = True
        try:
            yield
        finally:
            self.is_blocking = False

    def is_current(self, connection: Connection) -> bool:
        """Whether the connection is still in the noted transaction, which must not have failed."""
        return bool(connection.scalar(_BEGUN) == self._begun)

    def has_failed(self, connection: Connection) -> bool:
        """Whether the noted transaction is still there, after a statement in it has failed; all is undone if it is.

        Args:
            connection: which runs the revision; not a lost one.
        """
        try:
            connection.execute(_UNDO)
        except SQLAlchemyError:  # another transaction has no such savepoint
            return False
        return True
