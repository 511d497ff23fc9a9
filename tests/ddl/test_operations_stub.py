"""`op` in revision files has types for the operations of this library, as Alembic's own `op` has."""

import ast
import runpy
from pathlib import Path

import alembic

from safe_migrations.operations import op
from support import ROOT

STUB = ROOT / "src" / "safe_migrations" / "operations.pyi"
STUB_OF_ALEMBIC = Path(alembic.__file__).with_name("op.pyi")
NO_OPERATIONS = {"Operations", "context", "create_module_class_proxy"}  # Alembic's module has these besides


def functions(stub: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(stub.read_text())) if isinstance(node, ast.FunctionDef)}


def test_stub_is_written_from_the_registered_operations() -> None:
    written = runpy.run_path(str(ROOT / "scripts" / "write_operations.py"))["stubs"]()
    assert STUB.read_text() == written, "pdm run operations"


def test_stub_has_what_op_has_besides_alembics_own() -> None:
    registered = {name for name in dir(op) if callable(getattr(op, name)) and not name.startswith("_")}
    assert registered - functions(STUB_OF_ALEMBIC) - NO_OPERATIONS == functions(STUB)
