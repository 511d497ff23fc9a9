"""The arguments that `env.py` passes to Alembic, read without running the file."""

import ast
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeGuard

from safe_migrations.adopt.expressions import (
    URL,
    Engine,
    Scope,
    as_text,
    engine_urls,
    is_harmless,
    is_of_other_database,
    last_name,
    names_in,
    substituted,
    unparsed,
    unquoted,
    without_driver,
)
from safe_migrations.errors import ConfigurationError

_BY_HAND = """Replace the code that runs the migrations by:
from safe_migrations import run_env
run_env(target_metadata=…, database_url=…)"""
_SEVERAL = "Give each database a folder of revisions and an alembic.ini of its own."
_FLASK = """Create the application for other commands at the top of env.py, then run the same command again:
if not flask.has_app_context():
    create_app().app_context().push()"""
# What run_env does itself; render_as_batch is for SQLite.
_LEFT_OUT = {
    *("connection", "url", "dialect", "dialect_name", "dialect_opts", "literal_binds", "as_sql", "output_buffer"),
    *("transaction_per_migration", "render_as_batch"),
}
_OFFLINE = {"url", "dialect_name", "literal_binds", "as_sql"}
_RUN = {"configure", "run_migrations", "begin_transaction"}
_LOGGERS = {"logger", "logging", "log", "print"}
_VERSION_TABLE = {"version_table": "'alembic_version'", "version_table_schema": "None"}  # and Alembic's defaults
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class Unread(NamedTuple):
    """A line of `env.py` whose effect `run_env` would not have.

    Attributes:
        line: its number.
        text: its code.
        name: the argument of `run_env` that would say it, if it is one.
    """

    line: int
    text: str
    name: str = ""


class Option(NamedTuple):
    """An argument of `context.configure`.

    Attributes:
        line: where.
        text: the expression.
    """

    line: int
    text: str


@dataclass
class Environment:
    """What `env.py` passes to Alembic.

    Attributes:
        text: the whole file.
        calls_run_env: whether the file calls `run_env` already; then nothing else was read.
        options: what `context.configure` gets and `run_env` takes; the name of `**options` is its expression.
        urls: the expressions of the URL that migrations connect to; more than one if the file is ambiguous.
        unread: what could not be read.
        replaced: the statements that `run_env` replaces.
        local: imports and functions inside these statements, which the options need, by their names.
    """

    text: str
    calls_run_env: bool = False
    options: dict[str, str] = field(default_factory=dict)
    urls: list[str] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    replaced: list[ast.stmt] = field(default_factory=list)
    local: dict[str, ast.stmt] = field(default_factory=dict)


def read_environment(path: Path) -> Environment:
    """Read `env.py`.

    Raises:
        ConfigurationError: `env.py` is of a kind that `run_env` can't take over.
    """
    try:
        text = path.read_text(encoding="utf-8")
        module = ast.parse(text)
    except (OSError, UnicodeError, SyntaxError, ValueError) as error:
        raise ConfigurationError(f"{os.path.relpath(path)} can't be read ({error}). Nothing was changed.") from None
    names = {node.id for node in ast.walk(module) if isinstance(node, ast.Name)}
    if any(isinstance(node, ast.Call) and last_name(node.func) == "run_env" for node in ast.walk(module)):
        return Environment(text, calls_run_env=True)
    if "current_app" in names and "app_context" not in text:
        raise _refused(path, "uses Flask's current_app, which exists only in commands of flask", _FLASK)
    return _Reader(path, text, module).environment


def _refused(path: Path, why: str, instead: str) -> ConfigurationError:
    return ConfigurationError(f"{os.path.relpath(path)} {why}. Nothing was changed. {instead}")


class _Reader:
    """Walks the statements that run migrations, and reads what they pass on."""

    def __init__(self, path: Path, text: str, module: ast.Module) -> None:
        self._path = path
        self._contexts = {
            alias.asname or alias.name
            for node in ast.walk(module)
            if isinstance(node, ast.ImportFrom) and node.module == "alembic"
            for alias in node.names
            if alias.name == "context"
        }
        self._calls: list[dict[str, Option]] = []
        self._overrides: list[str] = []  # URLs put into Alembic's configuration
        self._offline_urls: list[str] = []
        self._unused: dict[str, Unread] = {}  # local names whose values may be more than what run_env needs
        self.environment = Environment(text)
        self._runners: set[str] = set()
        self._find_runners(module)
        for statement in module.body:
            if isinstance(statement, _Function) and statement.name in self._runners:
                self._read_function(statement, {})
            elif isinstance(statement, _Function | ast.ClassDef) or not self._runs(statement):
                self._skip_lost(engine_urls(statement, lambda node: node))
                continue
            else:
                self._read([statement], {})
            self.environment.replaced.append(statement)
        if not self._calls:
            raise _refused(path, "does not call context.configure, or calls it in another file", _BY_HAND)
        self.environment.unread += self._unused.values()
        self._choose()

    def _find_runners(self, module: ast.Module) -> None:
        """Find the functions that run migrations, and the functions that call them."""
        functions = [node for node in module.body if isinstance(node, _Function)]
        while new := {node.name for node in functions if self._runs(node)} - self._runners:
            self._runners |= new

    def _runs(self, node: ast.AST) -> bool:
        """Whether code runs migrations, itself or by a function."""
        return any(
            self._is_call_of_context(below) or (isinstance(below, ast.Name) and below.id in self._runners)
            for below in ast.walk(node)
        )

    def _is_call_of_context(self, node: ast.AST, names: frozenset[str] = frozenset(_RUN)) -> TypeGuard[ast.Call]:
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names):
            return False
        owner = ast.unparse(node.func.value)
        return owner in self._contexts or owner == "alembic.context"

    def _read_function(self, function: _Function, scope: Scope) -> None:
        arguments = [node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)]
        self._read(function.body, {**scope, **dict.fromkeys(arguments)})

    def _read(self, statements: list[ast.stmt], scope: Scope) -> None:
        for statement in statements:
            match statement:
                case ast.If():
                    self._read_if(statement, scope)
                case ast.Try():
                    handled = [part for handler in statement.handlers for part in handler.body]
                    self._read([*statement.body, *handled, *statement.orelse, *statement.finalbody], scope)
                case ast.With() | ast.AsyncWith():
                    self._read_with(statement, scope)
                case (
                    ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=ast.expr() as value)
                ):
                    self._read_assignment(statement, target, value, scope)
                case ast.Expr(value=value):
                    self._read_expression(statement, value, scope)
                case ast.FunctionDef() | ast.AsyncFunctionDef() if self._runs(statement):
                    self._runners.add(statement.name)
                    self._read_function(statement, scope)
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    used = scope.keys() & {*names_in(statement)}
                    scope[statement.name] = None if used else ast.Name(statement.name)
                    self.environment.local[statement.name] = statement
                case ast.Import() | ast.ImportFrom():
                    for alias in statement.names:
                        name = alias.asname or alias.name.partition(".")[0]
                        scope[name] = ast.Name(name)
                        self.environment.local[name] = statement
                case ast.Return(value=ast.expr() as value):
                    self._note(value, scope)
                case ast.Assert(test=test) if not self._is_about(test, scope):
                    self._skip(statement)
                case ast.Pass() | ast.Return() | ast.Raise() | ast.Assert() | ast.Global() | ast.Nonlocal():
                    pass
                case ast.For() | ast.AsyncFor() | ast.While() if self._runs(statement):
                    raise _refused(self._path, "migrates several databases or schemas, in a loop", _SEVERAL)
                case _:
                    self._skip(statement)

    def _read_if(self, statement: ast.If, scope: Scope) -> None:
        self._note(statement.test, scope)
        ends = any(isinstance(below, ast.Raise) for below in (*statement.body, *statement.orelse))
        if not is_harmless(statement.test) or (ends and not self._is_about(statement.test, scope)):
            self._skip(statement)  # it may forbid to migrate
        if not is_of_other_database(statement.test):
            self._read(statement.body, scope)
        self._read(statement.orelse, scope)

    def _is_about(self, test: ast.expr, scope: Scope) -> bool:
        """Whether a condition is about the URL, the engine or the mode, which run_env checks itself."""
        return set(names_in(test)) <= scope.keys() | self._contexts

    def _read_with(self, statement: ast.With | ast.AsyncWith, scope: Scope) -> None:
        for item in statement.items:
            self._note(item.context_expr, scope)
            if not self._runs(item.context_expr) and last_name(item.context_expr) not in ("connect", "begin"):
                self._skip(item.context_expr)
            if isinstance(item.optional_vars, ast.Name):
                scope[item.optional_vars.id] = None
        self._read(statement.body, scope)

    def _read_assignment(self, statement: ast.stmt, target: ast.expr, value: ast.expr, scope: Scope) -> None:
        self._note(value, scope)
        match target:
            case ast.Name(id=name) if name in scope and ast.unparse(value) == "{}":
                pass  # in place of a section that is missing
            case ast.Name(id=name):
                scope[name] = self._resolved(value, scope)
                if not is_harmless(value):
                    self._unused[name] = Unread(statement.lineno, ast.unparse(statement))
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=key)) if key == URL:
                override = self._resolved(value, scope)
                scope[name] = override and ast.Dict([ast.Constant(URL)], [override])
            case _:
                self._skip(statement)

    def _read_expression(self, statement: ast.stmt, value: ast.expr, scope: Scope) -> None:
        value = value.value if isinstance(value, ast.Await) else value
        self._note(value, scope)
        match value:
            case ast.Constant():
                pass
            case ast.Call(func=func, args=[*_, ast.Constant(value=key), url]) if (
                last_name(func) in ("set_main_option", "set_section_option") and key == URL
            ):
                self._add_url(self._resolved(url, scope), self._overrides)
            case ast.Call() if self._is_call_of_context(value, frozenset({"run_migrations"})) and (
                value.args or value.keywords
            ):
                self._skip(value)  # each revision gets these arguments
            case _ if self._runs(value):
                pass
            case ast.Call(func=func) if (
                last_name(func) in ("close", "commit", "dispose", "rollback")
                or ast.unparse(func).partition(".")[0].lower().strip("_") in _LOGGERS
            ):
                pass
            case _:
                self._skip(statement)

    def _note(self, expression: ast.expr, scope: Scope) -> None:
        """Read the calls of `context.configure` in an expression, and the engines that it connects."""
        for node in ast.walk(expression):
            if self._is_call_of_context(node, frozenset({"configure"})):
                self._read_configure(node, scope)
        engines = list(engine_urls(expression, lambda inner: self._resolved(inner, scope)))
        self._skip_lost(engines)
        for url, _ in engines:
            self._add_url(url, self.environment.urls)

    def _skip_lost(self, engines: Iterable[Engine]) -> None:
        for _, lost in engines:
            for keyword in lost:
                self._skip(keyword)

    def _read_configure(self, call: ast.Call, scope: Scope) -> None:
        for argument in call.args:
            self._skip(argument)
        options: dict[str, Option] = {}
        for keyword in call.keywords:
            name = keyword.arg or f"**{ast.unparse(keyword.value)}"
            if name in ("upgrade_token", "downgrade_token"):
                raise _refused(self._path, "migrates several databases", _SEVERAL)
            if name in _LEFT_OUT:
                options[name] = Option(keyword.value.lineno, "")
                if name == "url":
                    self._add_url(self._resolved(keyword.value, scope), self._offline_urls)
            elif value := self._resolved(keyword.value, scope):
                text = as_text(value, keyword.value, self.environment.text)
                options[name] = Option(keyword.value.lineno, text)
            else:
                self._skip(keyword, keyword.arg or "")
        self._calls.append(options)

    def _choose(self) -> None:
        """The options of an upgrade; options of `--sql` count only if an upgrade has no call of its own."""
        online = [call for call in self._calls if not _OFFLINE & call.keys()] or self._calls
        chosen = dict(online[0])
        for call in self._calls:
            names = chosen.keys() | call.keys() if call in online else _VERSION_TABLE
            for name in names:
                default = Option(0, _VERSION_TABLE.get(name, ""))
                option, other = chosen.get(name, default), call.get(name, default)
                if unquoted(option.text) != unquoted(other.text) and name not in _LEFT_OUT:
                    line, text = max(option, other)
                    self.environment.unread.append(Unread(line, f"{name}={text}", name.lstrip("*")))
        self.environment.options = {name: option.text for name, option in chosen.items() if name not in _LEFT_OUT}
        urls = [url for url in self.environment.urls if not (self._overrides and "get_main_option" in url)]
        self.environment.urls = list(dict.fromkeys(urls + self._overrides)) or self._offline_urls

    @staticmethod
    def _add_url(url: ast.expr | None, urls: list[str]) -> None:
        if url is not None and (text := unparsed(without_driver(url))) not in urls:
            urls.append(text)

    def _resolved(self, expression: ast.expr, scope: Scope) -> ast.expr | None:
        """An expression with the values of local names in place of the names; None if a value is not known."""
        resolved = substituted(expression, scope)
        for name in names_in(expression) if resolved else ():
            self._unused.pop(name, None)
        return resolved

    def _skip(self, node: ast.stmt | ast.expr | ast.keyword, name: str = "") -> None:
        unread = Unread(node.lineno, ast.unparse(node).splitlines()[0], name)
        if unread not in self.environment.unread:
            self.environment.unread.append(unread)
