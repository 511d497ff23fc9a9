"""What imports what: rooms import downwards only, and what has to be quick imports no library."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import safe_migrations
from support import ROOT, bare_environment

LOADED = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""

PROGRAM_CALLS = ("subprocess.run", "subprocess.Popen", "asyncio.create_subprocess_exec", "os.execv", "os.system")


def test_a_room_imports_only_from_rooms_below_it() -> None:
    """The contract is in pyproject.toml, and gives each room its place."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    process = subprocess.run(command, cwd=ROOT, env=bare_environment(), capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr


def test_each_call_of_a_program_chooses_its_environment() -> None:
    """By default a program inherits everything, with what a `.env` file has added: `environment_of_programs`."""
    for path in ROOT.joinpath("src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in PROGRAM_CALLS:
                assert "env" in {keyword.arg for keyword in node.keywords}, f"{path}:{node.lineno}"


@pytest.mark.parametrize("module", ["safe_migrations", "safe_migrations.probe", "safe_migrations.cli"])
def test_what_has_to_be_quick_imports_no_library(module: str) -> None:
    """A probe runs often; and a program that has an import of this package somewhere need not wait for Alembic."""
    command = [sys.executable, "-c", LOADED, module]
    process = subprocess.run(command, env=bare_environment(), capture_output=True, text=True, check=True)
    assert not {"alembic", "sqlalchemy", "pydantic", "dotenv"} & set(json.loads(process.stdout))


@pytest.mark.parametrize("name", safe_migrations.__all__)
def test_public_name_can_be_imported(name: str) -> None:
    assert getattr(safe_migrations, name).__name__ == name


def test_unknown_name() -> None:
    assert not hasattr(safe_migrations, "unknown")
