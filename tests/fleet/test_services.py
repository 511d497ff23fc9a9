"""Which folders are services."""

import os
from pathlib import Path

import pytest

from safe_migrations.errors import ConfigurationError
from safe_migrations.fleet.services import find_services

OURS = "[alembic]\nscript_location = %(here)s/alembic\n[safe_migrations]\nservice = orders\n"
STOCK = "[alembic]\nscript_location = %(here)s/migrations\n"


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        root.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        root.joinpath(name).write_text(text)


def found(root: Path, only: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> list[str]:
    return [member.path for member in find_services(root, only, exclude)]


@pytest.mark.parametrize(
    "files",
    [
        {"services/orders/alembic.ini": OURS},
        {"services/orders/alembic.ini": STOCK, "services/orders/migrations/env.py": "run_env(target_metadata=None)"},
        {
            "services/orders/pyproject.toml": '[tool.alembic]\nscript_location = "%(here)s/db"\n',
            "services/orders/db/env.py": "safe_migrations.run_env(\n    database_url=url,\n)",
        },
    ],
    ids=["section", "env.py", "pyproject.toml"],
)
def test_a_service_is_found_by_what_it_is(tmp_path: Path, files: dict[str, str]) -> None:
    write(tmp_path, files)
    assert found(tmp_path) == ["services/orders"]


@pytest.mark.parametrize(
    "files",
    [
        {"other/pyproject.toml": "[tool]\nalembic = 3\n"},
        {"stock/alembic.ini": STOCK, "stock/migrations/env.py": "context.configure()\n# run_env()\n"},
        {"orders/.venv/pyvenv.cfg": "", "orders/.venv/share/alembic.ini": OURS},
        {"venv/pyvenv.cfg": "", "venv/share/alembic.ini": OURS},
        {"node_modules/orders/alembic.ini": OURS},
        {".cache/alembic.ini": OURS},
    ],
    ids=["a value in place of a table", "stock", "environment", "named environment", "node_modules", "hidden"],
)
def test_what_is_no_service(tmp_path: Path, files: dict[str, str]) -> None:
    write(tmp_path, files)
    with pytest.raises(ConfigurationError, match="no service"):
        find_services(tmp_path)


@pytest.mark.parametrize(
    "text", ["[safe_migrations]\ncolour = red\n", "<<<<<<< HEAD\n[safe_migrations]\n=======\n", "[safe_migrations]\n%"]
)
def test_a_service_that_cannot_be_read_has_a_problem(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"a/alembic.ini": text, "b/alembic.ini": OURS})
    broken, good = find_services(tmp_path)
    assert isinstance(broken.problem, ConfigurationError)
    assert broken.service is None
    assert good.service
    assert good.service.name == "orders"


def test_selection(tmp_path: Path) -> None:
    names = ["alembic.ini", "b/c/orders/alembic.ini", "b/billing/alembic.ini", "legacy/orders/alembic.ini"]
    write(tmp_path, dict.fromkeys(names, OURS))
    assert found(tmp_path) == [".", "b/billing", "b/c/orders", "legacy/orders"]
    assert found(tmp_path, ("orders",)) == ["b/c/orders", "legacy/orders"]
    assert found(tmp_path, ("b/*",), ("*/billing/",)) == ["b/c/orders"]
    with pytest.raises(ConfigurationError, match="ordres"):
        find_services(tmp_path, ["ordres", "billing"])
    with pytest.raises(ConfigurationError, match="legacy/orders"):
        find_services(tmp_path, exclude=["*"])


def test_what_cannot_be_read_may_be_a_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of a service's own, such as that of a container's data, is no service."""
    write(tmp_path, {"good/alembic.ini": OURS, "good/data/file": "", "private/file": "", "unlinked/file": ""})
    tmp_path.joinpath("unlinked", "alembic.ini").symlink_to("nowhere")
    scandir = os.scandir

    def refuse(folder: str) -> object:
        if Path(folder).name in ("data", "private"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)  # no folder refuses root
    assert {member.path: bool(member.problem) for member in find_services(tmp_path)} == {
        "good": False,
        "private": True,
        "unlinked": True,
    }
