"""The SQL that a revision would run, recorded without a database, with the line and the operation of each statement."""

import io
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from typing import Any

from alembic.operations import BatchOperations, MigrateOperation, Operations
from alembic.operations.ops import BulkInsertOp, ExecuteSQLOp
from alembic.script import Script
from sqlalchemy import ClauseElement
from sqlalchemy.engine.mock import MockConnection
from sqlalchemy.exc import CompileError

from safe_migrations import ddl as ddl  # revisions call its operations
from safe_migrations.lint.statements import DIALECT, Statement
from safe_migrations.postgres.statements import split
from safe_migrations.upgrade.offline import offline_context


@dataclass(frozen=True)
class Problem:
    """Where a revision stops without a database, and why.

    Attributes:
        line: of the revision file.
        reason: the error, in one line.
        is_mistake: whether it fails with a database too.
    """

    line: int
    reason: str
    is_mistake: bool


def run_offline(script: Script, function: str) -> tuple[list[Statement], Problem | None]:
    """Run `upgrade` or `downgrade` of a revision without a database; a missing function does nothing."""
    recorder = _Recorder(script.path)
    problem = None
    recorder.write("BEGIN")
    try:
        with Operations.context(offline_context(recorder)) as operations, redirect_stdout(sys.stderr):
            recorder.watch(operations)
            getattr(script.module, function, lambda: None)()
    except (Exception, SystemExit) as error:  # whatever the revision expected of a database
        frames = traceback.walk_tb(error.__traceback__)
        line = [1, *(line for frame, line in frames if frame.f_code.co_filename == script.path)][-1]
        problem = Problem(line, f"{type(error).__name__}: {error}".splitlines()[0], _is_mistake(error, recorder.failed))
        recorder.record_failed(line)
    recorder.write("COMMIT")
    return recorder.statements, problem


class _Recorder(io.StringIO):
    """Takes Alembic's output, and notes which operation, called on which line of the revision file, writes it."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.statements: list[Statement] = []
        self.operation: MigrateOperation | None = None
        self.failed: MigrateOperation | None = None
        self.transactions = 0
        self.transaction: int | None = None

    def watch(self, operations: Operations) -> None:
        """Note the operation that the revision calls: the outermost one, if it calls other operations."""
        invoke = operations.invoke

        def watched(operation: MigrateOperation) -> Any:
            if self.operation is not None:
                return invoke(operation)
            self.operation = operation
            try:
                return invoke(operation)
            except Exception:
                self.failed = operation
                raise
            finally:
                self.operation = None

        in_batches = operations.batch_alter_table

        @contextmanager
        def watched_batch(*arguments: Any, **options: Any) -> Iterator[BatchOperations]:
            with in_batches(*arguments, **options) as batch:
                if "always" not in (*arguments[2:3], options.get("recreate")):  # no copy: each at its own line
                    batch.invoke = watched  # type: ignore[method-assign]
                yield batch

        operations.invoke = watched  # type: ignore[method-assign]
        operations.batch_alter_table = watched_batch  # type: ignore[method-assign]

    def write(self, text: str) -> int:
        stack = traceback.walk_stack(None)
        line = next((line for frame, line in stack if frame.f_code.co_filename == self.path), 0)
        for sql, plain in split(text):
            if plain.upper() == "BEGIN":
                self.transactions += 1
                self.transaction = self.transactions
            elif plain.upper() == "COMMIT":
                self.transaction = None
            self.statements.append(Statement(sql, plain, line, self.operation, self.transaction))
        return len(text)

    def record_failed(self, line: int) -> None:
        """Record the statement that failed because a value can't be written as SQL: its tables are known without it."""
        if isinstance(self.failed, ExecuteSQLOp) and isinstance(self.failed.sqltext, ClauseElement):
            with suppress(CompileError):
                text = str(self.failed.sqltext.compile(dialect=DIALECT))
                self.statements += (
                    Statement(sql, plain, line, self.failed, self.transaction) for sql, plain in split(text)
                )


def _is_mistake(error: BaseException, failed: MigrateOperation | None) -> bool:
    """Whether an error has another cause than the missing database, whose results are None."""
    if isinstance(error, CompileError):  # values of rows can be parameters with a database; names can't
        return not isinstance(failed, ExecuteSQLOp | BulkInsertOp | None)
    if isinstance(error, AttributeError):
        return not isinstance(error.obj, MockConnection | None)
    return isinstance(error, NameError | TypeError) and "NoneType" not in str(error)
