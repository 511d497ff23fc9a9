"""A revision file as lint reads it: its source, its comments, and the SQL that it would run without a database."""

import ast
import io
import tokenize
from collections.abc import Callable, Iterator
from enum import EnumType
from functools import cached_property, reduce
from itertools import takewhile
from pathlib import Path

from alembic.script import Script

from safe_migrations.ddl.sql_file import ExecuteFileOp
from safe_migrations.lint.offline import run_offline
from safe_migrations.lint.statements import CREATED, Statement, Types, bare, types_after
from safe_migrations.upgrade.phases import declared, unacknowledged

_EXECUTING = ("execute", "exec_driver_sql", "scalar", "scalars", "bulk_insert")


class Revision:
    """A revision file.

    Args:
        script: Alembic's.
        types_before: returns the types that exist before it; called only if it creates or uses one.
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
        self.upgrade, self.upgrade_problems = run_offline(script, "upgrade")
        self.downgrade, problems = run_offline(script, "downgrade")
        # A downgrade that only raises counts as empty, which is a finding of its own.
        self.problems = [*self.upgrade_problems, *([] if self.is_empty("downgrade") else problems)]

    @cached_property
    def created(self) -> set[str]:
        """The tables and materialized views that its upgrade creates, or that no release has: no code uses them yet."""
        matches = ((statement.branch, CREATED.match(statement.plain)) for statement in self.upgrade)
        created = {bare(match[1]) for branch, match in matches if match and self._only_in(branch, bare(match[1]))}
        return created | self.unreleased

    @cached_property
    def unreleased(self) -> set[str]:
        """The tables that the file declares as those that no release has."""
        return {name.removeprefix("public.") for name in declared(self.script, "unreleased_tables")}

    def _only_in(self, branch: tuple[int, ...], table: str) -> bool:
        """Whether a table that a branch creates is used there only: outside, it may have been there before."""
        users = (statement for statement in self.upgrade if table.rpartition(".")[2] in statement.sql)
        return not branch or all(statement.branch[: len(branch)] == branch for statement in users)

    def is_new(self, statement: Statement) -> bool:
        """Whether a statement does not create a table that may have been there before."""
        match = CREATED.match(statement.plain)
        return match is None or bare(match[1]) in self.created

    def is_of_baseline(self, statement: Statement) -> bool:
        """Whether a statement is of the SQL with which a history begins: what it makes is as databases have it."""
        return self.script.down_revision is None and isinstance(statement.operation, ExecuteFileOp)

    @cached_property
    def asked(self) -> tuple[int, str] | None:
        """The line that asks for an acknowledgement, and its text; None if there is none."""
        return unacknowledged(self.script)

    @property
    def acknowledged(self) -> bool:
        """Whether the danger is acknowledged, or the file asks for an acknowledgement: one finding for all dangers."""
        return bool(self.value("acknowledged")) or self.asked is not None

    @cached_property
    def functions(self) -> dict[str, ast.FunctionDef]:
        """The functions of the file."""
        return {node.name: node for node in self.tree.body if isinstance(node, ast.FunctionDef)}

    def types_at(self, statement: Statement) -> Types:
        """The types that exist when a statement of the upgrade runs."""
        before = takewhile(lambda earlier: earlier is not statement, self.upgrade)
        return reduce(types_after, before, self.types_before())

    def is_empty(self, name: str) -> bool:
        """Whether a function is missing, does nothing, or only raises."""
        function = self.functions.get(name)
        return function is None or all(
            isinstance(node, ast.Pass | ast.Return | ast.Raise)
            or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
            for node in function.body
        )

    def value(self, name: str) -> object:
        """The value of a variable of the file; None if there is none."""
        return getattr(self.script.module, name, None)

    def line_of(self, name: str) -> int:
        """The line that sets a variable, or else the line of the revision's id."""
        lines = {
            target.id: node.lineno
            for node in self.tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        return lines.get(name) or lines.get("revision") or 1

    def comments_at(self, line: int) -> Iterator[tuple[int, str]]:
        """The comments on a line and directly above it, with their lines."""
        if line in self.comments:
            yield line, self.comments[line]
        lines = self.text.splitlines()
        while (line := line - 1) in self.comments and lines[line - 1].lstrip().startswith("#"):
            yield line, self.comments[line]

    def executes(self, tree: ast.AST) -> bool:
        """Whether code executes a statement, itself or in a function of the file that it calls."""
        calls = _calls(tree)
        own = [self.functions[name.id] for name in calls if isinstance(name, ast.Name) and name.id in self.functions]
        return any(map(_is_execute, (*calls, *(call for function in own for call in _calls(function)))))

    def texts_executed(self) -> Iterator[ast.Call]:
        """The calls that execute SQL written as a string."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and _is_execute(node.func) and node.args and self._is_text(node.args[0]):
                yield node

    def is_listed(self, node: ast.expr) -> bool:
        """Whether a loop iterates over values that the file itself lists."""
        match node:
            case ast.Name(id=name):
                values = self._assigned(name)
                listed = isinstance(self.value(name), tuple | list | set | dict | EnumType)
                return listed or (bool(values) and all(map(self.is_listed, values)))
            case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items) | ast.Dict(values=items):
                return bool(items)
            case ast.Call(func=ast.Attribute(value=listed, attr="items" | "keys" | "values"), args=[]):
                return self.is_listed(listed)
            case ast.Call(func=ast.Name(id="enumerate" | "list" | "reversed" | "sorted" | "zip"), args=[*parts]):
                return all(map(self.is_listed, parts))
        return False

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
        return any(isinstance(value, ast.Constant | ast.JoinedStr) for value in self._assigned(name))

    def _assigned(self, name: str) -> list[ast.expr]:
        """What the file assigns to a name."""
        return [
            node.value
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
        ]


def _calls(tree: ast.AST) -> list[ast.expr]:
    return [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]


def _is_execute(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and function.attr in _EXECUTING
