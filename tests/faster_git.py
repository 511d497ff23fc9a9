"""git as the tests run it, thousands of times: without what takes a third of an update, and has nothing to do."""

import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

# Variables of git that the commands of the tests get.
VARIABLES = ("GIT_CONFIG_GLOBAL", "GIT_EXEC_PATH")

# Copier updates the submodules of each clone, by a script of a dozen processes. Our templates have none.
_SUBMODULE = """#!/bin/sh
test -e .gitmodules || exit 0
export GIT_EXEC_PATH={programs}
exec git submodule "$@"
"""
# No process that looks whether a new repository has to be packed; and no settings of the developer.
_CONFIG = "[maintenance]\n\tauto = false\n"


@contextmanager
def faster_git() -> Iterator[None]:
    """Let git skip them, in this process and those that it starts."""
    programs = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()
    with TemporaryDirectory(prefix="faster_git") as name:
        folder = Path(name, "programs")
        folder.mkdir()
        for program in Path(programs).iterdir():
            if program.name != "git-submodule":
                folder.joinpath(program.name).symlink_to(program)
        submodule = folder / "git-submodule"
        submodule.write_text(_SUBMODULE.format(programs=shlex.quote(programs)))
        submodule.chmod(0o755)
        config = Path(name, "config")
        config.write_text(_CONFIG)
        os.environ.update(GIT_CONFIG_GLOBAL=os.fspath(config), GIT_EXEC_PATH=os.fspath(folder))
        yield
