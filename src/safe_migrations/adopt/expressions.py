"""Expressions in `env.py`: which engines they make, and of which URL."""

import ast
import re
from collections.abc import Callable, Iterator
from copy import deepcopy

URL = "sqlalchemy.url"
_ENGINES = {"create_engine", "create_async_engine"}
_ENGINES_OF_A_SECTION = {"engine_from_config", "async_engine_from_config"}
# Arguments of an engine that do not matter to migrations, which have a connection of their own.
_IGNORED = re.compile(r"prefix|future|echo\w*|pool\w*|max_overflow|hide_parameters|query_cache_size|logging_name")
# Their results matter only where they are used.
_HARMLESS = {
    *("get_section", "get_main_option", "get", "getenv", "dict", "str", "getattr", "cast", "get_x_argument"),
    *("startswith", "lower", "strip", "isinstance", "hasattr", "is_offline_mode"),
    *("connect", "begin", "AsyncEngine", "get_event_loop", "new_event_loop", "get_running_loop", "replace"),
    *_ENGINES,
    *_ENGINES_OF_A_SECTION,
}
_OTHER_DATABASE = re.compile("sqlite|mysql|mariadb|oracle|mssql")
Scope = dict[str, ast.expr | None]  # the local names of a function; None: only known when the function runs
Engine = tuple[ast.expr | None, list[ast.keyword]]  # its URL, None if unknown; and its arguments that would get lost
_DRIVER = re.compile(r"(postgres(ql)?)?(\+\w+)?(:(//)?)?")


def last_name(node: ast.expr) -> str:
    """The last name of a function or of a call: `connect` of `engine.connect()`."""
    match node:
        case ast.Call(func=func):
            return last_name(func)
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def is_harmless(value: ast.expr) -> bool:
    """Whether the value of a local name has no effect but its use."""
    return all(last_name(node) in _HARMLESS for node in ast.walk(value) if isinstance(node, ast.Call))


def substituted(expression: ast.expr, scope: Scope) -> ast.expr | None:
    """An expression with the values of local names in place of the names; None if a value is not known."""
    if any(scope.get(name, expression) is None for name in names_in(expression)):
        return None
    resolved: ast.expr = _Substitution(scope).visit(deepcopy(expression))
    return resolved


class _Substitution(ast.NodeTransformer):
    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return deepcopy(self._scope.get(node.id) or node)


def names_in(node: ast.AST) -> Iterator[str]:
    """The names in code."""
    return (below.id for below in ast.walk(node) if isinstance(below, ast.Name))


def is_of_other_database(test: ast.expr) -> bool:
    """Whether a condition is true for a database other than PostgreSQL, such as `url.startswith("sqlite")`."""
    match test:
        case ast.Call(func=ast.Attribute(attr="startswith"), args=[ast.Constant(value=str() as name)]):
            return bool(_OTHER_DATABASE.match(name))
        case ast.Compare(left=left, ops=[ast.Eq() | ast.In()], comparators=[right]):
            names = [node.value for node in (left, right) if isinstance(node, ast.Constant)]
            return any(isinstance(name, str) and _OTHER_DATABASE.match(name) for name in names)
    return False


def as_text(value: ast.expr, original: ast.expr, source: str) -> str:
    """An expression as `env.py` has it, if it is on one line and nothing in it was replaced."""
    segment = ast.get_source_segment(source, original) or ""
    if "\n" not in segment and ast.dump(value) == ast.dump(original):
        return segment
    return unparsed(value)


def unparsed(node: ast.expr) -> str:
    """An expression as text, with double quotes."""
    text = ast.unparse(node)
    return text if '"' in text else text.replace("'", '"')


def unquoted(text: str) -> str:
    """The text of an expression, for comparisons: with one kind of quotes."""
    return text.replace('"', "'")


def without_driver(url: ast.expr) -> ast.expr:
    """The URL before `env.py` chose the driver or doubled each %: run_env takes any driver and any password."""
    match url:
        case ast.Call(
            func=ast.Attribute(value=inner, attr="replace"),
            args=[ast.Constant(value=str() as old), ast.Constant(value=str() as new)],
        ) if (old, new) == ("%", "%%") or (_DRIVER.fullmatch(old) and _DRIVER.fullmatch(new)):
            return without_driver(inner)
    return url


def engine_urls(code: ast.AST, resolved: Callable[[ast.expr], ast.expr | None]) -> Iterator[Engine]:
    """The engines that code makes or connects.

    Args:
        resolved: replaces the local names of an expression.
    """
    for node in ast.walk(code):
        if not isinstance(node, ast.Call):
            continue
        lost = [keyword for keyword in node.keywords if not (keyword.arg and _IGNORED.fullmatch(keyword.arg))]
        if (name := last_name(node)) in _ENGINES and (node.args or node.keywords):
            url = node.args[0] if node.args else _argument(node, "url")
            yield url and resolved(url), [keyword for keyword in lost if keyword.arg != "url"]
        elif name in _ENGINES_OF_A_SECTION:
            url, section = _argument(node, "url"), resolved(node.args[0] if node.args else node)
            yield resolved(url) if url else section and _url_of(section, node), [k for k in lost if k.arg != "url"]
        elif name in ("connect", "begin") and isinstance(node.func, ast.Attribute):
            engine = resolved(node.func.value)
            if engine is not None and not _makes_engine(engine) and "attributes" not in ast.unparse(engine):
                yield ast.Attribute(engine, "url"), []


def _argument(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _makes_engine(engine: ast.expr) -> bool:
    return any(
        isinstance(node, ast.Call) and last_name(node) in _ENGINES | _ENGINES_OF_A_SECTION for node in ast.walk(engine)
    )


def _url_of(section: ast.expr, engine: ast.Call) -> ast.expr | None:
    """The URL in a section of `alembic.ini`, or in a dictionary that has one in its place."""
    prefix = _argument(engine, "prefix")
    if prefix is not None and ast.unparse(prefix) != "'sqlalchemy.'":
        return None
    for node in ast.walk(section):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == URL:
                    return value
    for node in ast.walk(section):
        match node:
            case ast.Call(func=ast.Attribute(value=config, attr="get_section"), args=[name, *_]) if (
                last_name(name) == "config_ini_section" or ast.unparse(name) == "'alembic'"
            ):
                option = ast.Attribute(config, "get_main_option")
                return ast.Call(option, [ast.Constant(URL)], [])
    return None
