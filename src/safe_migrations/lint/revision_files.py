"""What a revision file says, and the SQL that it would run, without a database."""

import ast
import io
import sys
import tokenize
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import takewhile
from pathlib import Path
from types import FrameType

from alembic.operations import MigrateOperation, Operations
from alembic.operations.ops import ExecuteSQLOp
from alembic.runtime.migration import MigrationContext
from alembic.script import Script
from sqlalchemy import ClauseElement
from sqlalchemy.exc import CompileError

from safe_migrations import ddl as ddl  # revisions call its operations
from safe_migrations.lint.statements import CREATED, DIALECT, Statement, Types, bare, split, types_after
from safe_migrations.upgrade.phases import unacknowledged

_EXECUTING = ("execute", "exec_driver_sql", "scalar", "scalars", "bulk_insert")


@dataclass(frozen=True)
class Problem:
    """Where a revision could not go on without a database, and why; with one neither, where it is a mistake."""

    line: int
    reason: str
    is_mistake: bool


class Revision:
    """A revision file.

    Args:
        script: Alembic's.
        types_before: tells the types that exist before it; called only if it creates or uses one.
    """

    def __init__(self, script: Script, types_before: Callable[[], Types] = dict) -> None:
        self.script = script
        self.types_before = types_before
        self.path = Path(script.path)
        with tokenize.open(self.path) as file:
            self.text = file.read()
        self.tree = ast.parse(self.text)
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        self.comments = {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}
        self.upgrade, problem = run_offline(script, "upgrade")
        self.downgrade, problem_back = run_offline(script, "downgrade")
        # A downgrade that only refuses is empty, which is a finding of its own.
        problems = (problem, None if self.is_empty("downgrade") else problem_back)
        self.problems = [each for each in problems if each is not None]

    @cached_property
    def created(self) -> set[str]:
        """The tables and materialized views that its upgrade creates: nobody else uses them yet."""
        found = (CREATED.match(statement.plain) for statement in self.upgrade)
        return {bare(match[1]) for match in found if match}

    @cached_property
    def asked(self) -> tuple[int, str] | None:
        """The line that asks for an acknowledgement, and what it says; None where nothing is asked."""
        return unacknowledged(self.path)

    @property
    def acknowledged(self) -> bool:
        """Whether somebody has agreed to its danger, or is asked to, which is one finding for all that it is about."""
        return bool(self.value("acknowledged")) or self.asked is not None

    @cached_property
    def functions(self) -> dict[str, ast.FunctionDef]:
        """The functions of the file."""
        return {node.name: node for node in self.tree.body if isinstance(node, ast.FunctionDef)}

    def types_at(self, statement: Statement) -> Types:
        """The types that exist when a statement of the upgrade runs."""
        before = takewhile(lambda each: each is not statement, self.upgrade)
        return reduce(types_after, before, self.types_before())

    def is_empty(self, name: str) -> bool:
        """Whether a function is missing, does nothing, or refuses to do it."""
        function = self.functions.get(name)
        return function is None or all(
            isinstance(node, ast.Pass | ast.Return | ast.Raise)
            or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
            for node in function.body
        )

    def value(self, name: str) -> object:
        """What a variable of the file holds; None where there is none."""
        return getattr(self.script.module, name, None)

    def line_of(self, name: str) -> int:
        """The line on which a variable is set, or that of the revision's id."""
        lines = {
            target.id: node.lineno
            for node in self.tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        return lines.get(name) or lines.get("revision") or 1

    def comments_at(self, line: int) -> Iterator[tuple[int, str]]:
        """The comments on a line and right above it, with their lines."""
        if line in self.comments:
            yield line, self.comments[line]
        lines = self.text.splitlines()
        while (line := line - 1) in self.comments and lines[line - 1].lstrip().startswith("#"):
            yield line, self.comments[line]

    def executes(self, tree: ast.AST) -> bool:
        """Whether code executes a statement, itself or in a function of the file that it calls."""
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        own = (self.functions.get(each.id) for each in calls if isinstance(each, ast.Name))
        return any(map(_is_execute, calls)) or any(
            _is_execute(node.func)
            for function in own
            if function is not None
            for node in ast.walk(function)
            if isinstance(node, ast.Call)
        )

    def texts_executed(self) -> Iterator[ast.Call]:
        """The calls that execute SQL which is written as a string."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and _is_execute(node.func) and node.args and self._is_text(node.args[0]):
                yield node

    def is_listed(self, node: ast.expr) -> bool:
        """Whether a loop goes through what the file itself lists."""
        if isinstance(node, ast.Name):
            return isinstance(self.value(node.id), tuple | list | set | dict)
        return isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict)

    def _is_text(self, node: ast.expr) -> bool:
        match node:
            case ast.Constant(value=str()) | ast.JoinedStr():
                return True
            case ast.BinOp():
                return self._is_text(node.left) or self._is_text(node.right)
            case ast.Name():
                return isinstance(self.value(node.id), str) or self._is_local_text(node.id)
            case ast.Call(func=ast.Attribute(attr="text") | ast.Name(id="text" | "DDL" | "dedent")):
                return any(map(self._is_text, node.args))
            case ast.Call(func=ast.Attribute(value=called)):  # such as text("…").bindparams(…)
                return self._is_text(called)
        return False

    def _is_local_text(self, name: str) -> bool:
        return any(
            isinstance(node.value, ast.Constant | ast.JoinedStr)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Assign)
            and any(isinstance(each, ast.Name) and each.id == name for each in node.targets)
        )


def run_offline(script: Script, function: str) -> tuple[list[Statement], Problem | None]:
    """The SQL of a revision, and where it could not go on without a database.

    Args:
        script: the revision.
        function: `upgrade` or `downgrade`; one that is missing does nothing.
    """
    recorder = _Recorder(script.path)
    migration_context = MigrationContext.configure(
        url="postgresql+asyncpg://",
        dialect_opts={"paramstyle": "named"},
        opts={"as_sql": True, "literal_binds": True, "output_buffer": recorder},
    )
    problem = None
    recorder.write("BEGIN")
    try:
        with Operations.context(migration_context), redirect_stdout(sys.stderr):
            getattr(script.module, function, lambda: None)()
    except Exception as error:  # whatever it is that a revision expected of a database
        problem = _problem(error, script.path)
        recorder.write_without_values(error, problem.line)
    recorder.write("COMMIT")
    return recorder.statements, problem


class _Recorder(io.StringIO):
    """Takes Alembic's output, and looks up who writes it."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.statements: list[Statement] = []
        self.transactions = 0
        self.transaction: int | None = None

    def write(self, text: str) -> int:
        line, operation = self._origin(sys._getframe(1))
        for sql, plain in split(text):
            if plain.upper() == "BEGIN":
                self.transactions += 1
                self.transaction = self.transactions
            elif plain.upper() == "COMMIT":
                self.transaction = None
            self.statements.append(Statement(sql, plain, line, operation, self.transaction))
        return len(text)

    def write_without_values(self, error: Exception, line: int) -> None:
        """The statement in which a value could not be written: what it does to the rows can be told without it."""
        for frame, _ in traceback.walk_tb(error.__traceback__):
            operation = frame.f_locals.get("operation")
            if isinstance(operation, ExecuteSQLOp) and isinstance(operation.sqltext, ClauseElement):
                with suppress(CompileError):
                    text = str(operation.sqltext.compile(dialect=DIALECT))
                    found = (Statement(*each, line, operation, self.transaction) for each in split(text))
                    self.statements.extend(found)
                return

    def _origin(self, frame: FrameType | None) -> tuple[int, MigrateOperation | None]:
        """The line in the revision's file, and the operation called there: Alembic hands it on as `operation`."""
        operation = None
        while frame is not None and frame.f_code.co_filename != self.path:
            found = frame.f_locals.get("operation")
            operation = found if isinstance(found, MigrateOperation) else operation
            frame = frame.f_back
        return (frame.f_lineno, operation) if frame is not None else (0, None)


def _problem(error: Exception, path: str) -> Problem:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    # What Alembic has in place of a connection, or what that returns, where a database would have given more.
    is_offline = "'MockConnection'" in reason or "NoneType" in reason
    is_mistake = isinstance(error, AttributeError | NameError | TypeError) and not is_offline
    return Problem(_line_of_error(error, path), reason, is_mistake)


def _line_of_error(error: Exception, path: str) -> int:
    trace, line = error.__traceback__, 1
    while trace is not None:
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == path else line
        trace = trace.tb_next
    return line


def _is_execute(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and function.attr in _EXECUTING
