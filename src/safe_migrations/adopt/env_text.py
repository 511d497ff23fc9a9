"""The text of `env.py` that calls `run_env`."""

import ast
import re
from collections.abc import Mapping
from textwrap import dedent

from safe_migrations.adopt.environment import Environment
from safe_migrations.adopt.expressions import names_in

_SCAFFOLDING = {"asyncio", "sqlalchemy", "alembic", "typing"}  # importing these registers no model
_WIDTH = 100


def with_run_env(environment: Environment, arguments: Mapping[str, str]) -> str:
    """`env.py` with a call of `run_env` instead of the statements that run the migrations.

    Args:
        arguments: of the call, each an expression.
    """
    lines = environment.text.splitlines()
    call = _call(arguments)
    moved = [_moved(environment.text, statement) for statement in _needed(environment, arguments)]
    replaced = [_lines_of(lines, statement) for statement in environment.replaced]
    place = max(range_.start for range_ in replaced)
    kept: list[str] = []
    removed = {number for range_ in replaced for number in range_}
    for number, line in enumerate(lines):
        if number == place:
            kept += [*"\n".join([*moved, call]).splitlines()]
        if number not in removed:
            kept.append(line)
    text = _with_import(_without_unused_imports("\n".join(kept), environment))
    return re.sub(r"\n{4,}", "\n\n\n", _keeping_loggers(text)).rstrip("\n") + "\n"


def as_argument(url: str) -> str:
    """The expression of a URL as an argument: evaluated only if a command needs the database, where possible."""
    match ast.parse(url, mode="eval").body:
        case ast.Call(func=ast.Name(id=function), args=[], keywords=[]):
            return function
        case ast.Call(func=ast.Attribute(attr="get_main_option")) | ast.Name() | ast.Constant() | ast.Lambda():
            return url
    return f"lambda: {url}"


def _call(arguments: Mapping[str, str]) -> str:
    passed = [f"**{text}" if name.startswith("**") else f"{name}={text}" for name, text in arguments.items()]
    line = f"run_env({', '.join(passed)})"
    return line if len(line) <= _WIDTH else "run_env(\n" + "".join(f"    {argument},\n" for argument in passed) + ")"


def _needed(environment: Environment, arguments: Mapping[str, str]) -> list[ast.stmt]:
    """The statements of the replaced functions that the call needs."""
    used = {name for text in arguments.values() for name in names_in(ast.parse(text, mode="eval"))}
    return list(dict.fromkeys(statement for name, statement in environment.local.items() if name in used))


def _moved(source: str, statement: ast.stmt) -> str:
    """A statement of a function, as the module needs it."""
    text = dedent(" " * statement.col_offset + (ast.get_source_segment(source, statement) or ""))
    return text if isinstance(statement, ast.Import | ast.ImportFrom) else f"\n\n{text}\n\n"


def _lines_of(lines: list[str], statement: ast.stmt) -> range:
    """The lines of a statement, with its decorators and the comment right above."""
    decorators = getattr(statement, "decorator_list", [])
    start = min(node.lineno for node in (statement, *decorators)) - 1
    while start and lines[start - 1].startswith("#"):
        start -= 1
    return range(start, statement.end_lineno or start)


def _without_unused_imports(text: str, environment: Environment) -> str:
    """Remove the imports of libraries that only the replaced statements used."""
    module = ast.parse(text)
    before = {name for statement in environment.replaced for name in names_in(statement)}
    unused = before - set(names_in(module))
    lines = text.splitlines()
    for statement in reversed([node for node in module.body if isinstance(node, ast.Import | ast.ImportFrom)]):
        names = [alias.asname or alias.name.partition(".")[0] for alias in statement.names]
        of = statement.module if isinstance(statement, ast.ImportFrom) else names[0]
        if (of or "").partition(".")[0] not in _SCAFFOLDING or not unused & set(names):
            continue
        statement.names = [alias for alias, name in zip(statement.names, names, strict=True) if name not in unused]
        start = statement.lineno - 1
        lines[start : statement.end_lineno] = [ast.unparse(statement)] if statement.names else []
        if start and not "".join(lines[start - 1 : start + 1]):  # a blank line above, and one below
            del lines[start]
    return "\n".join(lines)


def _with_import(text: str) -> str:
    """Import `run_env` below the import of Alembic, or else below the last import."""
    imports = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
    of_alembic = [node for node in imports if isinstance(node, ast.ImportFrom) and node.module == "alembic"]
    line = max((node.end_lineno or 0 for node in of_alembic or imports), default=0)
    lines = text.splitlines()
    return "\n".join([*lines[:line], "from safe_migrations import run_env", *lines[line:]])


def _keeping_loggers(text: str) -> str:
    """Let `fileConfig` keep the loggers of an application that calls Alembic."""
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(
                func=ast.Name(id="fileConfig"), args=[_], keywords=[], end_lineno=int(number), end_col_offset=int(end)
            ):
                line = lines[number - 1].encode()
                lines[number - 1] = (line[: end - 1] + b", disable_existing_loggers=False" + line[end - 1 :]).decode()
    return "\n".join(lines)
