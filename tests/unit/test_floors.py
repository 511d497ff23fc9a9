"""safe_migrations is a house: a module imports only from what its docstring names below, or above on the same floor."""

import ast
import re

from support import TEMPLATE

FLOORS = ("ground", "floor 1", "floor 2", "wings", "roof")


def places() -> dict[str, tuple[int, int]]:
    """Each module's floor, and its line there."""
    docstring = ast.get_docstring(ast.parse(TEMPLATE.joinpath("safe_migrations", "__init__.py").read_text())) or ""
    found: dict[str, tuple[int, int]] = {}
    floor = ""
    for line, text in enumerate(docstring.splitlines()):
        match = re.match(r" {4}(roof|wings|floor \d|ground|) +(\w+) {2,}\S", text)
        if match:
            floor = match[1] or floor
            found[match[2]] = (FLOORS.index(floor), line)
    return found


def test_every_module_has_its_place() -> None:
    files = {path.stem for path in TEMPLATE.joinpath("safe_migrations").glob("*.py")} - {"__init__", "__main__"}
    assert set(places()) == files


def test_imports_go_down_or_up_the_list_of_the_same_floor() -> None:
    of = places()
    for module, (floor, line) in of.items():
        tree = ast.parse(TEMPLATE.joinpath("safe_migrations", f"{module}.py").read_text())
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("safe_migrations"):
                continue
            package = (node.module or "").partition(".")[2]
            for imported in [package] if package else [alias.name for alias in node.names]:
                below, place = of[imported]
                assert below < floor or (below == floor and place < line), f"{module} imports {imported}"
