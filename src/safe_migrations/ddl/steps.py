"""`op.step`: the parts of a revision that commit one after the other.

A step is recorded in the transaction of its effect. After a failure or a kill, the next run leaves out what is
recorded, and goes on at the first step that is not. The records are removed in the transaction that records the
revision.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from alembic.operations import MigrateOperation, Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, event

from safe_migrations.ddl.registration import register
from safe_migrations.ddl.step_records import Direction, StepRecords
from safe_migrations.errors import ConfigurationError, RevisionError
from safe_migrations.postgres.transaction import is_of_transaction
from safe_migrations.printable import printable

_OPTION = "safe_migrations_steps"  # among the options of Alembic's context: the steps of the revision that runs
_NAME = "safe_migrations_step"  # in the information of the connection: the step that runs

IN_TRANSACTION = (
    "A revision with several steps can't commit them in the caller's transaction. Give Alembic a connection that is "
    "not in a transaction."
)
Between = Callable[[Connection], AbstractContextManager[None]]


@register
class StepOp(MigrateOperation):
    """The beginning of a step."""

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def step(cls, operations: Operations, name: str) -> bool:
        """Commit the step before, and begin the next one: `if op.step("index ix_item_sku"):`

        Args:
            operations: given by Alembic.
            name: of the step; a revision uses each name once in a function.

        Returns:
            Whether to run the step: False if an earlier run has completed it.

        Raises:
            RevisionError: the function has executed a statement outside of its steps, or uses the name twice.
            ConfigurationError: `env.py` does not call `run_env`, or the caller of Alembic has begun the transaction.
        """
        return bool(operations.invoke(cls(name)))

    def run(self, operations: Operations) -> bool:
        """Begin the step."""
        steps: Steps | None = operations.get_context().opts.get(_OPTION)
        if steps is None:
            raise ConfigurationError(
                f"The revision has steps (op.step({self.name!r})), which only run_env records. Call run_env of "
                "safe_migrations in env.py."
            )
        return steps.begin(operations, self.name)


class Steps:
    """The steps of the function that runs; offline, they are separated by COMMIT and BEGIN, and not recorded."""

    def __init__(self, completed: Collection[str] = ()) -> None:
        self.completed = completed
        self.names: list[str] = []

    def begin(self, operations: Operations, name: str) -> bool:
        """End the step before, and begin one.

        Returns:
            Whether to run it.
        """
        if name in self.names:
            raise RevisionError(f"the step {name!r} exists twice in the function; give each step a name of its own")
        self.names.append(name)
        return self._begin(operations, name)

    def _begin(self, operations: Operations, name: str) -> bool:
        context = operations.get_context()
        if len(self.names) > 1:
            with context.autocommit_block():
                pass
        context.impl.static_output(f"-- Step {printable(name)}")
        return name not in self.completed


class RecordedSteps(Steps):
    """The steps of a revision that runs on a database."""

    def __init__(self, records: StepRecords, revision: str, direction: Direction, between: Between) -> None:
        """Know which steps are completed.

        Args:
            between: is entered when a step is about to be committed, and left when the next one begins.
        """
        super().__init__(records.of(revision, direction))
        self._records = records
        self._key = revision, direction
        self._between = between
        self._is_own = False  # whether this class executes the statements
        self._has_executed = False  # whether the function has executed a statement
        self.current: str | None = None

    def _begin(self, operations: Operations, name: str) -> bool:
        if self._has_executed and len(self.names) == 1:
            raise RevisionError(
                "the function executes a statement before its first step, which the next run would repeat; move the "
                "statement into a step"
            )
        if self.current is not None:
            self._complete(operations, self.current)
        self.current = None if name in self.completed else name
        operations.get_bind().info[_NAME] = self.current
        return self.current is not None

    def _complete(self, operations: Operations, name: str) -> None:
        context, connection = operations.get_context(), operations.get_bind()
        if context.opts.get("transaction_of_caller"):
            raise ConfigurationError(IN_TRANSACTION)
        if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
            raise RevisionError("a step begins in an autocommit_block; end the block before the step")
        with self._between(connection):
            with self._own():
                self._records.add(connection, *self._key, name)
            with context.autocommit_block():  # which commits, and begins a transaction afterwards
                pass
            self._records.of(*self._key).append(name)

    @contextmanager
    def running(self, context: MigrationContext) -> Iterator[None]:
        """Let the revision's function find this object, and check that statements run only in steps."""
        connection = context.connection
        if connection is None:
            raise ConfigurationError("steps are recorded in a database")
        context.opts[_OPTION] = self
        information = connection.info  # a lost connection has none
        event.listen(connection, "before_cursor_execute", self._note_statement)
        try:
            yield
            self._finish(connection)
        finally:
            event.remove(connection, "before_cursor_execute", self._note_statement)
            information.pop(_NAME, None)
            del context.opts[_OPTION]

    def _note_statement(
        self, _connection: Connection, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: bool
    ) -> None:
        if self._is_own or is_of_transaction(context):
            return
        if self.names and self.current is None:
            raise RevisionError(
                f"a statement is outside the steps, after {self.names[-1]!r}, which an earlier run has "
                f"completed: {printable(' '.join(statement.split()))[:60]!r}; move the statement into a step"
            )
        self._has_executed = True

    @contextmanager
    def _own(self) -> Iterator[None]:
        self._is_own = True
        try:
            yield
        finally:
            self._is_own = False

    def _finish(self, connection: Connection) -> None:
        if missing := [name for name in self.completed if name not in self.names]:
            raise RevisionError(
                f"an earlier run has completed the steps {', '.join(map(repr, missing))}, which are missing in the "
                "file; restore the names of the steps"
            )
        if self.completed:
            with self._own():
                self._records.remove(connection, *self._key)


def steps_offline(context: MigrationContext, completed: Collection[str] = ()) -> None:
    """Let a revision begin its steps in a script."""
    context.opts[_OPTION] = Steps(completed)


def current_step(connection: Connection) -> str | None:
    """The name of the step that runs on a connection; None outside of steps."""
    name: str | None = connection.info.get(_NAME)
    return name


def no_steps_between(_connection: Connection) -> AbstractContextManager[None]:
    """The default of `between`: nothing happens between two steps."""
    return nullcontext()
