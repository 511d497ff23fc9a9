"""Python programs as forks of an interpreter that has imported the libraries: processes without half a second of start.

Only the libraries are imported before the fork; the modules of a service, and its settings, are read by each process.
"""

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

# The console scripts that can be run, by their module; `python -m` runs these modules, and those of a service.
SCRIPTS = {"alembic": "alembic.config", "safe-migrations": "safe_migrations.cli"}
MODULES = ("alembic", "safe_migrations", "database")

_BINARIES = Path(sys.executable).parent


class _Parent:
    """The interpreter that forks, one process at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._folder = TemporaryDirectory(prefix="warm_python")
        self._process = subprocess.Popen(
            [sys.executable, "-P", Path(__file__).with_name("warm_parent.py")],
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        atexit.register(self.close)

    def run(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
        outputs = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        module = SCRIPTS.get(command[0], "")
        request = {
            "module": module or command[2],
            "script": bool(module),
            "path": str(_BINARIES) if module else str(folder),
            "arguments": [str(_BINARIES / command[0]), *command[1:]] if module else ["-m", *command[3:]],
            "folder": str(folder),
            "environment": dict(environment),
            "outputs": [os.fspath(path) for path in outputs],
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        status = int(self._process.stdout.readline())
        stdout, stderr = (path.read_text() for path in outputs)
        return status, stdout, stderr

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()


@cache
def _parent() -> _Parent:
    return _Parent()


def _can_fork(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> bool:
    """Whether the start of the interpreter has nothing to do with what the command does."""
    if any(name.startswith(("PYTHON", "LC_", "TZ")) for name in environment):
        return False
    if any(folder.glob("safe_migrations/*.py")) or folder.joinpath("safe_migrations.py").exists():
        return False  # a service of 1.x, whose package may come before the library
    return command[0] in SCRIPTS or (command[:2] == ("python", "-m") and command[2] in MODULES)


def run_warm(
    command: tuple[str, ...], folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str] | None:
    """Run a command of this environment in a fork; None if it takes a new interpreter."""
    if not _can_fork(command, folder, environment) or not _parent().lock.acquire(blocking=False):
        return None
    try:
        status, stdout, stderr = _parent().run(command, folder, environment)
    finally:
        _parent().lock.release()
    return subprocess.CompletedProcess(command, status, stdout, stderr)
