"""Functions of operations that leave the transaction of their revision."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from alembic.operations import Operations
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import ExecutableDDLElement

from safe_migrations.errors import ConfigurationError, RevisionError
from safe_migrations.postgres.server_errors import QUERY_CANCELED, RETRIED, sqlstate
from safe_migrations.postgres.sql import ddl
from safe_migrations.postgres.timeouts import Timeouts, duration_text, load_timeouts, milliseconds
from safe_migrations.postgres.transaction import RevisionTransaction

_HAS_WRITTEN = text("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")
_GET = text("SELECT current_setting(:name)")

log = logging.getLogger(__name__)


@contextmanager
def outside_transaction(operations: Operations) -> Iterator[Timeouts]:
    """Leave the revision's transaction, which must have changed nothing, and set timeouts for the build."""
    context = operations.get_context()
    if context.opts.get("transaction_of_caller"):
        raise ConfigurationError(
            "A concurrent index can't be built in the caller's transaction. Give Alembic a connection that is not in a "
            "transaction."
        )
    if not context.as_sql and operations.get_bind().scalar(_HAS_WRITTEN):
        raise RevisionError(
            "A concurrent index must come first in its revision or step, because earlier changes could not be rolled "
            "back. Give the index a step of its own (op.step)."
        )
    transaction = None if context.as_sql else RevisionTransaction.of(operations.get_bind())
    timeouts = transaction.timeouts if transaction else load_timeouts()
    settings = {"lock_timeout": milliseconds(longest_wait(timeouts)), "statement_timeout": "0ms"}
    if transaction:
        transaction.suspend(operations.get_bind())
    with context.autocommit_block():
        before = {name: timeouts.session_settings()[name] for name in settings}
        if not context.as_sql:
            before = {name: operations.get_bind().scalar(_GET, {"name": name}) for name in settings}
        set_for_session(operations, settings)
        try:
            yield timeouts
        except BaseException:
            with suppress(Exception):
                set_for_session(operations, before)
            raise
        set_for_session(operations, before)
    if transaction:
        transaction.note(operations.get_bind())


def longest_wait(timeouts: Timeouts) -> float:
    """How long an operation waits: it blocks neither reads nor writes, so as long as all tries together."""
    return timeouts.retry_window or timeouts.lock_timeout


def run_briefly(operations: Operations, timeouts: Timeouts, statement: ExecutableDDLElement) -> None:
    """Run a statement that blocks other sessions: with the short timeout, and as many tries as a revision has."""
    connection, tries, until = operations.get_bind(), 0, time.monotonic() + timeouts.retry_window
    transaction = RevisionTransaction.of(connection)
    set_for_session(operations, {"lock_timeout": milliseconds(timeouts.lock_timeout)})
    while True:
        try:
            with transaction.blocking() if transaction else nullcontext():
                operations.execute(statement)
            break
        except DBAPIError as error:
            if sqlstate(error) not in (*RETRIED, QUERY_CANCELED) or time.monotonic() > until:
                raise
        tries += 1
        pause = timeouts.pause(tries)
        log.warning("Did not get a lock (try %d); next try in %s", tries, duration_text(pause))
        connection.execute(select(func.pg_sleep(pause)))  # the server waits: work beside this connection continues
    set_for_session(operations, {"lock_timeout": milliseconds(longest_wait(timeouts))})


def set_for_session(operations: Operations, settings: dict[str, str]) -> None:
    """Change settings of the session, also in a script."""
    for name, value in settings.items():
        operations.execute(ddl("SET %(name)s = '%(value)s'", name=name, value=value))
