"""This suite leaves the environment that runs it as it is."""

import sys
from pathlib import Path

import pytest

from support import Service
from warm_python import warm_path


@pytest.mark.parametrize("command", ["install", "update", "add", "sync"])
def test_no_test_can_install_into_its_own_environment(tmp_path: Path, command: str) -> None:
    """Not even where a service's `pdm` uses this environment, as in tests of bots and hooks."""
    service = Service(tmp_path, "ORDERS", {"VIRTUAL_ENV": sys.prefix, "PDM_IGNORE_SAVED_PYTHON": "1"})
    for path in (None, warm_path()):
        process = service.run("pdm", command, path=path)
        assert process.returncode, process.stdout
    assert not list(tmp_path.iterdir())
