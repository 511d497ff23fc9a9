"""The source of a revision, rewritten so that a run reaches each branch, and what follows a failure.

In the rewritten code `__lint__` is the `Run` of execution.py, and `__frame__` the `Frame` of one call of a function.
"""

import ast
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import count
from types import CodeType
from typing import Any, TypeVar

Node = TypeVar("Node", bound=ast.AST)

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SIMPLE = (ast.Expr, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Delete, ast.Import, ast.ImportFrom)
_OF_THE_CALLER = {"super", "locals", "globals", "vars", "dir"}  # builtins that look at the code that calls them
_NOT_IN_LAMBDA = (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)


@lru_cache(maxsize=1024)
def compile_paths(text: bytes, path: str) -> CodeType:
    """The code of a file whose functions run in all branches, with the lines of the file."""
    tree = ast.fix_missing_locations(_Rewriter().module(ast.parse(text)))
    for node in ast.walk(tree):
        match node:  # Python reports the last line of what is called
            case ast.Attribute(value=ast.Name(id=name)) if name.startswith(("__lint", "__frame__")):
                node.end_lineno, node.end_col_offset = node.lineno, node.col_offset
    return compile(tree, path, "exec")


class _Rewriter(ast.NodeTransformer):
    def __init__(self) -> None:
        self.numbers = count()
        self.outer: set[str] = set()  # the names that the function declares global or nonlocal
        self.yields = False

    def module(self, tree: ast.Module) -> ast.Module:
        """Rewrite the functions: the code outside of functions has run when Alembic loaded the file."""
        tree.body = [self.visit(node) if isinstance(node, (*_FUNCTIONS, ast.ClassDef)) else node for node in tree.body]
        return tree

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        node.body = [self.visit(part) if isinstance(part, _FUNCTIONS) else part for part in node.body]
        return node

    def visit_FunctionDef(self, node: Any) -> ast.AST:
        before, parts = (self.outer, self.yields), list(_inside(node.body))
        self.outer = {name for part in parts if isinstance(part, ast.Global | ast.Nonlocal) for name in part.names}
        self.yields = any(isinstance(part, ast.Yield | ast.YieldFrom) for part in parts)
        end = [] if self.yields else _parse("return __frame__.result(None)")
        node.body = _at([*_parse("__frame__ = __lint__.frame()"), *self._block(node.body), *end], node)
        self.outer, self.yields = before
        return node  # type: ignore[no-any-return]

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    # Statements

    def generic_visit(self, node: ast.AST) -> Any:
        visited = super().generic_visit(node)
        return self._guarded(visited) if isinstance(visited, _SIMPLE) else visited

    def visit_Assign(self, node: ast.Assign) -> Any:
        guarded = self.generic_visit(node)
        for target in node.targets:
            if isinstance(target, ast.Tuple | ast.List):
                node.value = _run("shaped", node.value, _shape(target))
        return guarded

    def visit_ImportFrom(self, node: Any) -> Any:
        guard = self._guarded(node)
        guard.body += _parse(*(f"{name} = __lint__.imported({name})" for part in node.names for name in _bound(part)))
        return guard

    visit_Import = visit_ImportFrom  # noqa: N815

    def visit_Assert(self, node: ast.Assert) -> Any:
        return self.visit(ast.copy_location(ast.Expr(node.test), node))

    def visit_Return(self, node: ast.Return) -> Any:
        if self.yields:
            return super().generic_visit(node)
        name = self._name()
        value = self._set(name, self.visit(node.value) if node.value else ast.Constant(None), node)
        return _at([value, *_parse(f"return __frame__.result({name})")], node)

    def visit_Break(self, node: ast.stmt) -> list[ast.stmt]:
        return _at([*_parse("__frame__.leave()"), node], node)

    visit_Continue = visit_Break  # noqa: N815

    def visit_If(self, node: ast.If) -> list[ast.stmt]:
        names = self._assigned((*node.body, *node.orelse))
        choice, name = self._choice(self.visit(node.test), node)
        yes, no = (_parse(f"if {name}.{way}: pass")[0] for way in ("yes", "no"))
        yes.body, no.body = [_with(name, self._block(node.body))], [_with(name, self._block(node.orelse))]
        return _at([choice, yes, _merge(name, names, "before"), no, _merge(name, names)], node)

    def visit_While(self, node: ast.While) -> list[ast.stmt]:
        names, name = self._assigned(node.body), self._name()
        node.test = _call(f"{name}.again", self.visit(node.test))
        node.body, orelse = [_with(name, self._block(node.body))], self._block(node.orelse)
        node.orelse = []
        start = _parse(f"{name} = __frame__.choice(False, locals())")
        return _at([*start, self._guarded(node, []), _merge(name, names), *orelse], node)

    def visit_For(self, node: Any) -> list[ast.stmt]:
        names = self._assigned((node,))
        choice, name = self._choice(self.visit(node.iter), node)
        rows = _call(f"{name}.rows", _shape(node.target))
        body, orelse = [_with(name, self._block(node.body))], self._block(node.orelse)
        loop = ast.copy_location(ast.For(target=node.target, iter=rows, body=body, orelse=[]), node)
        return _at([choice, self._guarded(loop, []), _merge(name, names), *orelse], node)

    visit_AsyncFor = visit_For  # noqa: N815

    def visit_With(self, node: Any) -> ast.stmt:
        body = self._block(node.body)
        for item in reversed(node.items):
            name = self._name()
            opened = self._set(name, self.visit(item.context_expr), node)
            manager = ast.withitem(_expression(name), item.optional_vars)
            managed = ast.copy_location(type(node)(items=[manager], body=body), node)
            body = [opened, self._guarded(managed, [])]
        return _at([ast.If(ast.Constant(True), body, [])], node)[0]

    visit_AsyncWith = visit_With  # noqa: N815

    def visit_Try(self, node: ast.Try) -> list[ast.stmt]:
        name = self._name()
        body = [*_parse(f"{name} = __frame__.attempt({bool(node.handlers)})"), _with(name, self._block(node.body))]
        for handler in node.handlers:
            choice, name = self._choice(_expression("__lint__.unknown"), handler)
            error = _parse(f"{handler.name} = __lint__.unknown" if handler.name else "pass")
            handled = _with(name, self._block(handler.body))
            body += _at([choice, *error, handled, _merge(name, self._assigned(handler.body))], handler)
        return _at([*body, *self._block(node.orelse), *self._block(node.finalbody)], node)

    visit_TryStar = visit_Try  # type: ignore[assignment]  # noqa: N815

    def visit_Match(self, node: ast.Match) -> list[ast.stmt]:
        choice, name = self._choice(self.visit(node.subject), node)
        both: list[ast.stmt] = []
        for case in node.cases:
            captured = [part.name for part in ast.walk(case.pattern) if isinstance(part, ast.MatchAs | ast.MatchStar)]
            case.guard = self.visit(case.guard) if case.guard else None
            case.body = self._block(case.body)
            both += [*_parse(*(f"{bound} = __lint__.unknown" for bound in captured if bound)), _with(name, case.body)]
        node.subject = _expression(f"{name}.value")
        return _at([choice, ast.If(_expression(f"{name}.both"), both, [node])], node)

    # Expressions

    def visit_Call(self, node: ast.Call) -> ast.expr:
        super().generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in _OF_THE_CALLER:
            return node
        call = ast.Call(_expression("__lint__.call"), [node.func, *node.args], node.keywords)
        return ast.copy_location(call, node)

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        if node.attr == "as_sql" and isinstance(node.ctx, ast.Load):  # another way to ask for the offline mode
            return _expression("__lint__.unknown")
        return super().generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        super().generic_visit(node)
        if len(node.ops) > 1:
            return node
        return _run("compared", ast.Constant(type(node.ops[0]).__name__), node.left, *node.comparators)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        super().generic_visit(node)
        return _run("negated", node.operand) if isinstance(node.op, ast.Not) else node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        super().generic_visit(node)
        if not _fits_lambda(node):
            return node
        return _run("joined", ast.Constant(isinstance(node.op, ast.And)), *map(_lazy, node.values))

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        super().generic_visit(node)
        if not _fits_lambda(node):
            return node
        return _run("chosen", node.test, _lazy(node.body), _lazy(node.orelse))

    def visit_ListComp(self, node: ast.ListComp) -> ast.expr:
        super().generic_visit(node)
        return _run("listed", node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.expr:
        super().generic_visit(node)
        return _run("generated", ast.ListComp(node.elt, node.generators))

    def visit_comprehension(self, node: ast.comprehension) -> ast.comprehension:
        super().generic_visit(node)
        if not node.is_async:
            node.iter = _run("rows", node.iter, _shape(node.target))
        node.ifs = [_run("possible", test) for test in node.ifs]
        return node

    # Parts

    def _block(self, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
        visited = [self.visit(statement) for statement in statements]
        return [part for parts in visited for part in (parts if isinstance(parts, list) else [parts])] or [ast.Pass()]

    def _name(self) -> str:
        return f"__lint{next(self.numbers)}__"

    def _assigned(self, statements: Iterable[ast.AST]) -> list[str]:
        names = {name for node in _inside(statements) for name in _bound(node)}
        return sorted(name for name in names - self.outer if not name.startswith("__lint"))

    def _guarded(self, node: ast.stmt, names: Iterable[str] | None = None) -> Any:
        """A statement after whose failure the run continues; the names that the statement binds are unknown then."""
        names = self._assigned((node,)) if names is None else names
        calls = not isinstance(node, _SIMPLE) or any(isinstance(part, ast.Call) for part in ast.walk(node))
        lines = [f"__lint__.failed(__error__, {calls})", *(f"{name} = __lint__.unknown" for name in names)]
        (guard,) = _parse("try: pass", "except Exception as __error__:", *(f" {line}" for line in lines))
        guard.body = [node]
        return _at([guard], node)[0]

    def _set(self, name: str, value: ast.expr, node: ast.AST) -> ast.stmt:
        assign = ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], value), node)
        return self._guarded(assign, [name])  # type: ignore[no-any-return]

    def _choice(self, value: ast.expr, node: ast.AST) -> tuple[ast.stmt, str]:
        """A statement that sets a new name to the ways to go by a value."""
        name = self._name()
        guard: Any = self._set(name, _call("__frame__.choice", value, _expression("locals()")), node)
        guard.handlers[0].body[-1:] = _parse(f"{name} = __frame__.choice(__lint__.unknown, locals())")
        return _at([guard], node)[0], name


def _merge(name: str, names: Iterable[str], way: str = "after") -> ast.stmt:
    (merge,) = _parse(f"if {name}.both: pass")
    merge.body += _parse(*(f"{assigned} = {name}.{way}({assigned!r}, locals())" for assigned in names))
    return merge  # type: ignore[no-any-return]


def _inside(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The nodes, and what they consist of, without the code of functions and classes among them."""
    for node in nodes:
        yield node
        if not isinstance(node, (*_FUNCTIONS, ast.ClassDef, ast.Lambda)):
            yield from _inside(ast.iter_child_nodes(node))


def _bound(node: ast.AST) -> list[str]:
    match node:
        case ast.Name(id=name, ctx=ast.Store()):
            return [name]
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.alias(name=name, asname=asname) if name != "*":
            return [asname or name.partition(".")[0]]
    return []


def _shape(target: ast.expr) -> ast.expr:
    """A tuple of tuples and None, as a target unpacks a value."""
    if isinstance(target, ast.Tuple | ast.List):
        return ast.Tuple([_shape(part) for part in target.elts], ast.Load())
    return ast.Constant(None)


def _fits_lambda(node: ast.AST) -> bool:
    return not any(isinstance(part, _NOT_IN_LAMBDA) for part in ast.walk(node))


def _parse(*lines: str) -> list[Any]:
    """Statements without places in a file."""
    tree = ast.parse("\n".join(lines))
    for node in ast.walk(tree):
        for attribute in node._attributes:
            if hasattr(node, attribute):
                delattr(node, attribute)
    return tree.body


def _expression(text: str) -> Any:
    return _parse(text)[0].value


def _call(function: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(_expression(function), [*arguments], [])


def _run(function: str, *arguments: ast.expr) -> ast.Call:
    return ast.copy_location(_call(f"__lint__.{function}", *arguments), arguments[-1])


def _lazy(value: ast.expr) -> ast.Lambda:
    function: ast.Lambda = _expression("lambda: None")
    function.body = value
    return ast.copy_location(function, value)


def _with(name: str, body: list[ast.stmt]) -> ast.stmt:
    (block,) = _parse(f"with {name}: pass")
    block.body = body
    return block  # type: ignore[no-any-return]


def _at(nodes: list[ast.stmt], node: ast.AST) -> list[ast.stmt]:
    return [part if hasattr(part, "lineno") else ast.copy_location(part, node) for part in nodes]
