"""What a user does, with nothing of the test environment: an environment of its own, installed by PDM."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import Render, bare_environment, free_port


class User:
    """Somebody with PDM and Python on PATH, in the folder of a service."""

    def __init__(self, folder: Path) -> None:
        pdm = shutil.which("pdm")
        assert pdm, "this test needs PDM on PATH: python3 -m pip install 'pdm[locked]'"
        base = Path(sys.base_prefix) / "bin"
        path = os.pathsep.join([str(Path(pdm).parent), str(base), "/usr/local/bin", "/usr/bin", "/bin"])
        self.folder = folder
        self.environment = bare_environment(PATH=path, PDM_CHECK_UPDATE="false")

    def pdm(self, *arguments: str) -> str:
        process = subprocess.run(
            ["pdm", *arguments], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        assert process.returncode == 0, f"pdm {arguments}:\n{process.stdout}{process.stderr}"
        return process.stdout


@pytest.fixture
def user(render: Render) -> Iterator[User]:
    service = render(outbox=True, database_port=free_port())
    user = User(service.folder)
    yield user
    user.pdm("run", "db-down")


def journey(user: User) -> None:
    """The first ten minutes, as the service's README has them, then a change and the way back."""
    user.pdm("run", "db-up")
    user.pdm("run", "migrate-upgrade")
    user.pdm("run", "migrate-check")
    models = user.folder / "models_db.py"
    models.write_text(
        models.read_text().replace("    name: Mapped", "    note: Mapped[str | None]\n    name: Mapped", 1)
    )
    user.pdm("run", "migrate-revision", "add a column")
    assert len(list((user.folder / "alembic" / "versions").glob("*_0002_add_a_column.py"))) == 1
    user.pdm("run", "migrate-upgrade")
    assert "(head)" in user.pdm("run", "migrate-current")
    user.pdm("run", "migrate-downgrade")
    assert "add a column" in user.pdm("run", "migrate-history")
    assert "ADD COLUMN note" in user.pdm("run", "migrate-sql")
    assert " passed" in user.pdm("run", "test")
    user.pdm("run", "lint")
    user.pdm("run", "typecheck")


def test_with_the_newest_versions_then_with_production_alone(user: User) -> None:
    user.pdm("install")
    journey(user)

    # What the Dockerfile installs is enough to migrate, and to tell whether the database is ready.
    image = User(user.folder.parent / "image")
    shutil.copytree(user.folder, image.folder, ignore=shutil.ignore_patterns(".venv", ".pdm-python", ".postgres"))
    image.pdm("install", "--prod")
    assert "embedded" not in image.pdm("list", "--csv")
    image.pdm("run", "migrate-upgrade")
    assert "as this code expects" in image.pdm("run", "python", "-m", "database")


def test_with_the_lowest_versions(user: User) -> None:
    user.pdm("lock", "--strategy", "direct_minimal_versions")
    user.pdm("install", "--frozen-lockfile")
    assert "2.1.0\n" in user.pdm("run", "python", "-c", "import sqlalchemy; print(sqlalchemy.__version__)")
    journey(user)
