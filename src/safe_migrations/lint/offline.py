"""The SQL that a revision would run, recorded without a database, with the line and the operation of each statement."""

import asyncio
import io
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec
from types import CodeType, ModuleType
from typing import Any

import sqlalchemy as sa
from alembic.operations import BatchOperations, MigrateOperation, Operations
from alembic.operations.ops import BulkInsertOp, ExecuteSQLOp
from alembic.script import Script
from sqlalchemy import ClauseElement
from sqlalchemy.engine.mock import MockConnection
from sqlalchemy.exc import CompileError

from safe_migrations import ddl as ddl  # revisions call its operations
from safe_migrations.ddl.steps import StepOp
from safe_migrations.lint.code_paths import compile_paths
from safe_migrations.lint.connection import Connection
from safe_migrations.lint.execution import Run
from safe_migrations.lint.statements import DIALECT, Statement
from safe_migrations.lint.unknown import MARKER, Unknown, is_unknown
from safe_migrations.postgres.statements import split
from safe_migrations.upgrade.offline import offline_context

NEEDS_DATABASE, MISTAKE, UNSEEN = "needs-database", "python-error", "unseen-statement"
_LIBRARIES = {"sqlalchemy", "alembic", "safe_migrations", "contextlib", "asyncio"}
_NAMES = {"columns", "comment", "schema", "source_schema", "referent_schema", "local_cols", "remote_cols", "sqltext"}


@dataclass(frozen=True)
class Problem:
    """A part of a revision that lint can't see, and the reason.

    Attributes:
        line: of the revision file.
        rule: the name of the rule that reports it.
        reason: in one line.
    """

    line: int
    rule: str
    reason: str


def run_offline(script: Script, function: str) -> tuple[list[Statement], list[Problem]]:
    """Run `upgrade` or `downgrade` without a database, in all branches; a missing function does nothing."""
    loader = _Loader(script.module.__name__, script.path)
    specification = ModuleSpec(loader.name, loader, origin=script.path)
    specification.has_location = True  # so that the module has its __file__
    module = module_from_spec(specification)
    recorder = _Recorder(script.path, module.__name__)
    migration = offline_context(recorder)
    connection = recorder.run.connection = Connection(migration.dialect, migration.impl._exec, recorder)
    migration.connection = migration.impl.connection = connection  # type: ignore[assignment]
    recorder.write("BEGIN")
    try:
        with Operations.context(migration) as operations, redirect_stdout(sys.stderr):
            recorder.watch(operations)
            operations.run_async = lambda work, *arguments, **options: asyncio.run(  # type: ignore[method-assign]
                work(connection, *arguments, **options)
            )
            module.__dict__["__lint__"] = recorder.run
            loader.exec_module(module)
            module.__dict__.update({name: recorder.run.imported(value) for name, value in vars(module).items()})
            getattr(module, function, lambda: None)()
    except (Exception, SystemExit) as error:  # any error: the revision expected a database
        recorder.failed(error, calls=False)
    recorder.write("COMMIT")
    return recorder.statements, list(dict.fromkeys(recorder.problems))


class _Loader(SourceFileLoader):
    """Loads a revision so that its functions run in all branches."""

    def get_code(self, fullname: str) -> CodeType:
        return compile_paths(self.get_data(self.path), self.path)


class _Recorder(io.StringIO):
    """Takes Alembic's output, and notes which operation, called on which line of the revision file, writes it."""

    def __init__(self, path: str, module: str) -> None:
        super().__init__()
        self.path = path
        self.run = Run(module, self.unseen, self.failed)
        self.statements: list[Statement] = []
        self.problems: list[Problem] = []
        self.operation: MigrateOperation | None = None
        self.failed_operation: MigrateOperation | None = None
        self.steps = 0
        self.transactions = 0
        self.transaction: int | None = None

    def watch(self, operations: Operations) -> None:
        """Note the operation that the revision calls: the outermost one, if it calls other operations."""
        invoke = operations.invoke

        def watched(operation: MigrateOperation) -> Any:
            if self.operation is not None:
                return invoke(operation)
            self.operation, decided = operation, Unknown.decided
            self.steps += isinstance(operation, StepOp)
            try:
                return invoke(operation)
            except Exception:
                self.failed_operation = operation
                raise
            finally:
                self.operation = None
                if unknown := [name for name, value in vars(operation).items() if _matters(name, value)]:
                    self.unseen(", ".join(unknown))
                elif Unknown.decided > decided:
                    self.unseen("an argument")

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
        self._record(text, self._line())
        return len(text)

    def write_without_values(self, statement: Any, reason: str) -> None:
        """Record a statement whose values can't be written as SQL: its tables are known without them."""
        self._needs(self._line(), reason)
        if not self._record_element(statement, self._line()):
            self.unseen(reason)

    def uses(self, what: str) -> None:
        """Note that the revision uses what only a database has, which no script can."""
        self.run.guessing = True
        self._needs(self._line(), what)
        frames = (frame for frame, _ in traceback.walk_stack(None))
        user = next(frame for frame in frames if _root(frame) not in _LIBRARIES)
        if user.f_code.co_filename != self.path:
            self.unseen(f"{user.f_code.co_name}() of {_root(user)} decides by a query")

    def unseen(self, what: str) -> None:
        """Note that lint has not seen a statement."""
        self.problems.append(Problem(self._line(), UNSEEN, what))

    def failed(self, error: BaseException, calls: bool) -> None:
        """Note that a statement of the revision has failed."""
        frames = traceback.walk_tb(error.__traceback__)
        line = [1, *(line for frame, line in frames if frame.f_code.co_filename == self.path)][-1]
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        operation, self.failed_operation = self.failed_operation, None
        if _is_mistake(error, operation) and not (self.run.guessing and _may_come_from_an_answer(error)):
            self.problems.append(Problem(line, MISTAKE, reason))
        elif self._record_failed(operation, line) or not calls:
            self._needs(line, reason)
        else:
            self.problems.append(Problem(line, UNSEEN, reason))

    def _needs(self, line: int, reason: str) -> None:
        """Note the first reason why no script can be written."""
        if all(problem.rule != NEEDS_DATABASE for problem in self.problems):
            self.problems.append(Problem(line, NEEDS_DATABASE, reason))

    def _line(self) -> int:
        stack = traceback.walk_stack(None)
        return next((line for frame, line in stack if frame.f_code.co_filename == self.path), 0)

    def _record(self, text: str, line: int, operation: MigrateOperation | None = None) -> None:
        operation = operation or self.operation
        for sql, plain in split(text):
            if plain.upper() == "BEGIN":
                self.transactions += 1
                self.transaction = self.transactions
            elif plain.upper() == "COMMIT":
                self.transaction = None
            elif MARKER in plain and isinstance(operation, ExecuteSQLOp | None):
                self.problems.append(Problem(line, UNSEEN, plain))
            if not plain.startswith(MARKER):
                place = self.transaction, self.run.branch, self.steps
                self.statements.append(Statement(sql, plain, line, operation, *place))

    def _record_element(self, element: Any, line: int, operation: MigrateOperation | None = None) -> bool:
        with suppress(CompileError):
            if isinstance(element, ClauseElement):
                self._record(str(element.compile(dialect=DIALECT)), line, operation)
                return True
        return False

    def _record_failed(self, operation: MigrateOperation | None, line: int) -> bool:
        """Record the statement that failed because a value can't be written as SQL: its tables are known without it."""
        if isinstance(operation, ExecuteSQLOp):
            return self._record_element(operation.sqltext, line, operation)
        if isinstance(operation, BulkInsertOp):
            return self._record_element(sa.insert(operation.table), line, operation)
        return False


def _matters(name: str, value: object) -> bool:
    """Whether what an operation does depends on an unknown argument that is more than a name."""
    return is_unknown(value) and name not in _NAMES and not name.endswith("name")


def _root(frame: Any) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _may_come_from_an_answer(error: BaseException) -> bool:
    """Whether an error may have its cause in an answer that lint has made up for the database."""
    return isinstance(error, TypeError) or not isinstance(getattr(error, "obj", None), ModuleType | None)


def _is_mistake(error: BaseException, failed: MigrateOperation | None) -> bool:
    """Whether an error has another cause than the missing database."""
    if isinstance(error, CompileError):  # values of rows can be parameters with a database; names can't
        return not isinstance(failed, ExecuteSQLOp | BulkInsertOp | None)
    if isinstance(error, AttributeError):
        return not isinstance(error.obj, MockConnection | None)
    return isinstance(error, NameError | TypeError) and "NoneType" not in str(error)
