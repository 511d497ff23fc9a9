"""Python programs as forks of an interpreter that has imported the libraries: processes without half a second of start.

It has also migrated a database, so that SQLAlchemy has compiled most statements. The modules of a service, and its
settings, are read by each process.
"""

import os
import select
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import warm_client
from warm_client import ADDRESS

# The console scripts that can be run; `python -m` runs these modules, and those of a service.
SCRIPTS = ("alembic", "copier", "pytest", "safe-migrations")
MODULES = ("alembic", "copier", "database", "pytest", "safe_migrations")

_BINARIES = Path(sys.executable).parent


@contextmanager
def warm_parent() -> Iterator[None]:
    """The interpreter that forks."""
    with TemporaryDirectory(prefix="warm_python") as folder, socket.socket(socket.AF_UNIX) as listener:
        os.environ[ADDRESS] = os.path.join(folder, "socket")
        listener.bind(os.environ[ADDRESS])
        listener.listen(128)
        client = [sys.executable, "-IS", os.fspath(Path(warm_client.__file__)), os.environ[ADDRESS], sys.executable]
        for name in ("pdm", "python", *SCRIPTS):
            program = Path(folder, name)
            program.write_text(f'#!/bin/sh\nexec {shlex.join(client)} {name} "$@"\n')
            program.chmod(0o755)
        process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                Path(__file__).with_name("warm_parent.py"),
                str(listener.fileno()),
                Path(folder, "python"),  # sys.executable of the forks
                folder,
                *SCRIPTS,
            ],
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
        listener.close()  # so that nobody waits for an interpreter that is gone
        yield
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def warm_program(name: str) -> Path:
    """A program that runs in a fork; `python` does so for some modules, `pdm` runs scripts only."""
    return Path(os.environ[ADDRESS]).with_name(name)


def warm_path() -> str:
    """A PATH on which shells and other programs find these."""
    return os.pathsep.join([os.path.dirname(os.environ[ADDRESS]), os.fspath(_BINARIES), os.environ["PATH"]])


class WarmProcess:
    """A fork, as `subprocess.Popen` has it: its output is kept in pipes."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        *,
        stdin: int = subprocess.DEVNULL,
        session: bool = False,
    ) -> None:
        self.args = command
        self.returncode: Any = None  # as Popen has it
        script = command[0] in SCRIPTS
        request = {
            "program": command[0] if script else command[1],
            "what": "" if script else command[2],
            "path": [str(_BINARIES if script else folder), *_more_path(environment)],
            "arguments": [str(_BINARIES / command[0]), *command[1:]] if script else [command[1], *command[3:]],
            "folder": str(folder),
            "environment": dict(environment),
            "session": session,
        }
        pipes = [os.pipe(), os.pipe()]
        self.stdout, self.stderr = (os.fdopen(reading) for reading, _ in pipes)
        with open(os.devnull) as null:
            files = [null.fileno() if stdin == subprocess.DEVNULL else stdin, *(writing for _, writing in pipes)]
            self._connection = warm_client.ask(os.environ[ADDRESS], request, files)
        for _, writing in pipes:
            os.close(writing)
        self.pid = warm_client.answer(self._connection)

    def poll(self) -> Any:
        """The exit status, if it has ended."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.returncode = warm_client.answer(self._connection)
            self._connection.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, when it has ended."""
        if self.returncode is None and not select.select([self._connection], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return int(self.poll())

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it prints from now on, when it has ended."""
        with self.stdout, self.stderr, ThreadPoolExecutor(2) as pool:
            printed = [pool.submit(stream.read) for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self._connection.close()  # which ends it, and what is read
                raise
            stdout, stderr = (reader.result() for reader in printed)
        return stdout, stderr

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def can_fork(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> bool:
    """Whether the start of the interpreter has nothing to do with what the command does."""
    if ADDRESS not in os.environ:  # the benchmark measures new interpreters
        return False
    if any(name.startswith(("PYTHON", "LC_", "TZ")) and name != "PYTHONPATH" for name in environment):
        return False
    for path in (folder, *map(Path, _more_path(environment))):
        if any(path.glob("safe_migrations/*.py")) or path.joinpath("safe_migrations.py").exists():
            return False  # such as a service of 1.x, whose package may come before the library
    program = Path(command[0]).name
    if shutil.which(command[0], path=environment["PATH"]) != os.fspath(_BINARIES / program):
        return False
    if program != "python":
        return program in SCRIPTS
    if command[1] == "-c":
        return "sys.modules" not in command[2]  # which asks what a new interpreter has imported
    return command[1] == "-m" and command[2] in MODULES


def _more_path(environment: Mapping[str, str]) -> list[str]:
    return [folder for folder in environment.get("PYTHONPATH", "").split(os.pathsep) if folder]


def run(command: tuple[str, ...], folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command, in a fork where it is one of this environment."""
    if not can_fork(command, folder, environment):
        return subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    process = WarmProcess(command, folder, environment)
    stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(command, process.wait(), stdout, stderr)
