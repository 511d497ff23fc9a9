"""Whether a function of a revision file only calls operations, so that running it offline changes nothing."""

import ast
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from sqlalchemy import ClauseElement, MetaData
from sqlalchemy.types import TypeEngine

_MODULES = {"alembic.op", "sqlalchemy", "sqlalchemy.sql", "sqlalchemy.types", "textwrap"}
_VALUES = (str, bytes, int, float, tuple, list, dict, set, frozenset, type(None), ClauseElement, MetaData, TypeEngine)
CONNECTING = {"create_engine", "create_async_engine", "create_pool_from_url", "engine_from_config"}
# Names that make or reveal a connection, so that the offline SQL would differ.
_NOT_HARMLESS = CONNECTING | {"get_bind", "as_sql", "bind", "connection", "run_async", "impl", "migration_context"}
_NOT_HARMLESS |= {"environment_context"}
_BUILTINS = {"dict", "enumerate", "int", "len", "list", "range", "reversed", "set", "sorted", "str", "tuple", "zip"}
_EXPRESSIONS = (
    *(ast.Constant, ast.Attribute, ast.JoinedStr, ast.FormattedValue, ast.Tuple, ast.List, ast.Dict, ast.Set),
    *(ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Subscript, ast.Slice, ast.Starred, ast.keyword),
    *(ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp, ast.comprehension),
    *(ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)
_STATEMENTS = (ast.Expr, ast.Pass, ast.Return, ast.Assign, ast.AnnAssign, ast.With, ast.withitem, ast.For, ast.If)


def is_inert(module: ModuleType, path: Path, function: str) -> bool:
    """Whether a function does nothing but call operations and build their arguments.

    Args:
        function: `upgrade` or `downgrade`; one that is missing does nothing.
    """
    tree = ast.parse(path.read_bytes())
    functions = {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and _is_of_node(vars(module).get(node.name), node, module)
    }
    if function not in functions:  # missing, or imported, decorated, or made in some other way
        return not hasattr(module, function)
    return _Inspection(vars(module), functions).allows(functions[function])


def _is_of_node(value: Any, node: ast.FunctionDef, module: ModuleType) -> bool:
    """Whether a value of a module is the function that a node defines, and nothing around it."""
    return (
        isinstance(value, FunctionType)
        and value.__module__ == module.__name__
        and value.__code__.co_firstlineno == node.lineno
        and not (node.decorator_list or value.__defaults__ or value.__kwdefaults__)
    )


class _Inspection:
    def __init__(self, values: Mapping[str, Any], functions: Mapping[str, ast.FunctionDef]) -> None:
        self.values = values
        self.functions = functions
        self.allowed: set[str] = set()
        self.contexts: set[ast.expr] = set()  # which are only asked for an autocommit block

    def allows(self, function: ast.FunctionDef) -> bool:
        """Whether each node of a function, and of the functions that it calls, is known to be harmless."""
        self.allowed.add(function.name)
        names = {
            node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        local = names | {argument.arg for argument in function.args.args}
        return all(self._allows(node, local) for part in function.body for node in ast.walk(part))

    def _allows(self, node: ast.AST, local: set[str]) -> bool:
        match node:
            case ast.Call(func=called):
                root = _root(called)
                return isinstance(root, ast.Name | ast.Constant | ast.JoinedStr)  # methods of a text, among others
            case ast.Attribute(attr=attribute) if attribute in _NOT_HARMLESS:
                return False
            case ast.Attribute(attr="autocommit_block", value=ast.Call(func=context)):
                self.contexts.add(context)
            case ast.Attribute(attr="get_context"):  # reveals the state and the server of the run
                return node in self.contexts
            case ast.Name(id=name) if name in self.functions and name not in local:
                return name in self.allowed or self.allows(self.functions[name])
            case ast.Name(id=name):
                return name in local or self._is_harmless(name)
        return isinstance(node, (*_EXPRESSIONS, *_STATEMENTS))

    def _is_harmless(self, name: str) -> bool:
        """Whether a name of the file is a plain value, or a part of a library that only describes."""
        if name not in self.values:
            return name in _BUILTINS
        value = self.values[name]
        if isinstance(value, ModuleType):
            return value.__name__ in _MODULES or value.__name__.startswith("sqlalchemy.dialects")
        if isinstance(value, FunctionType | type):
            if value.__name__ in _NOT_HARMLESS or value.__module__.startswith("sqlalchemy.event"):
                return False
            return value.__module__.partition(".")[0] in ("sqlalchemy", "textwrap")
        return isinstance(value, _VALUES)


def _root(node: ast.expr) -> ast.expr:
    """What a chain of attributes and calls begins with."""
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node
