"""A plug-in for the root of a monorepo: `pytest services` runs the tests of each service in a process of its own.

    [tool.pytest.ini_options]
    addopts = ["-p", "safe_migrations.testing.monorepo"]

The modules of two services have the same names, so one process can't import both.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from safe_migrations.env_files import environment_of_programs


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Take a folder with an `alembic.ini` and a `pyproject.toml` of its own for a service."""
    if (
        path != parent.config.rootpath
        and path.joinpath("alembic.ini").exists()
        and path.joinpath("pyproject.toml").exists()
    ):
        return _Service.from_parent(parent, path=path)
    return None


class _Service(pytest.Directory):
    def collect(self) -> Iterator[pytest.Item]:
        yield _Tests.from_parent(self, name="tests")


class _Tests(pytest.Item):
    def runtest(self) -> None:
        """Run pytest in the service's folder, where its own configuration holds."""
        process = subprocess.run(
            [sys.executable, "-m", "pytest"],
            cwd=self.path,
            env=environment_of_programs(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        print(process.stdout)
        if process.returncode:
            pytest.fail(f"pytest in {self.path} ended with status {process.returncode}", pytrace=False)
