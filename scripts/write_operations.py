"""`pdm run operations`: write the types of `op` from the registered operations, as Alembic writes its own op.pyi."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType

from alembic.operations import MigrateOperation

from safe_migrations.ddl import constraints, dependents, domains, enums, indexes, schemas, sql_file, steps

TARGET = Path(inspect.getfile(indexes)).parent.parent / "operations.pyi"
MODULES = (indexes, constraints, enums, domains, schemas, dependents, sql_file, steps)
_GIVEN = "operations: given by Alembic.\n    "
HEAD = """\
# Written by `pdm run operations`; a test compares it.
from collections.abc import Iterable, Sequence
from typing import Any

from alembic.operations import Operations

from safe_migrations.ddl.types import SQLType as SQLType

__all__ = ["SQLType", "op"]

class _Operations(Operations):
"""


def stubs() -> str:
    """What stands in the file, formatted."""
    methods = [_stub(name, class_) for module in MODULES for name, class_ in _operations(module)]
    text = f"{HEAD}{''.join(methods)}\nop: _Operations\n"
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def _operations(module: ModuleType) -> list[tuple[str, type[MigrateOperation]]]:
    """The operations that a module registers, with their names."""
    return [
        (name, class_)
        for class_ in vars(module).values()
        if inspect.isclass(class_) and class_.__module__ == module.__name__ and issubclass(class_, MigrateOperation)
        for name, member in vars(class_).items()
        if isinstance(member, classmethod)
    ]


def _stub(name: str, class_: type[MigrateOperation]) -> str:
    function = ast.parse(dedent(inspect.getsource(getattr(class_, name)))).body[0]
    assert isinstance(function, ast.FunctionDef)  # noqa: S101
    arguments = function.args
    arguments.args = [ast.arg("self"), *arguments.args[2:]]  # without the class and Alembic's operations
    documentation = inspect.cleandoc(ast.get_docstring(function) or "").replace(_GIVEN, "")
    body = "\n".join(f"        {line}".rstrip() for line in f'"""{documentation}\n"""'.splitlines())
    returns = ast.unparse(function.returns) if function.returns else "None"
    return f"    def {name}({ast.unparse(arguments)}) -> {returns}:\n{body}\n"


if __name__ == "__main__":
    TARGET.write_text(stubs())
