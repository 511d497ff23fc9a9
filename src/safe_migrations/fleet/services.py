"""The services in a folder, found by what they are: `alembic.ini` has our section, or `env.py` calls `run_env`."""

import configparser
import os
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from safe_migrations.errors import ConfigurationError, MigrationError
from safe_migrations.service import SECTION, Service

PROGRAMS = "Scripts" if os.name == "nt" else "bin"  # of a virtual environment
_OTHER_FOLDERS = {"__pycache__", "node_modules", "site-packages"}
_CALL = re.compile(r"^(?!\s*#).*\brun_env\s*\(", re.MULTILINE)


@dataclass(frozen=True)
class Member:
    """A service of the fleet.

    Attributes:
        path: of its folder, relative to the fleet's folder; this names the service in tables and messages.
        config_file: its `alembic.ini`, or the `pyproject.toml` that has Alembic's configuration.
        service: the settings of `alembic.ini`; None if the file can't be read.
        problem: why the file can't be read.
    """

    path: str
    config_file: Path
    service: Service | None
    problem: MigrationError | None = None

    @property
    def folder(self) -> Path:
        """The folder of `alembic.ini`."""
        return self.config_file.parent

    @property
    def virtual_environment(self) -> Path | None:
        """The nearest virtual environment between the service's folder and the fleet's."""
        environments = (folder / ".venv" for folder in self.folders)
        return next((folder for folder in environments if os.path.isdir(folder / PROGRAMS)), None)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The service's folder, and those above it up to the fleet's."""
        return (self.folder, *self.folder.parents[: len(Path(self.path).parts)])


def find_services(root: Path, only: Sequence[str] = (), exclude: Sequence[str] = ()) -> list[Member]:
    """Find the services in a folder, in any depth, in the order of their paths.

    Args:
        only: patterns as in a shell; a service's path or the name of its folder must match one. Without patterns, all
            services match.
        exclude: patterns; neither may match.

    Raises:
        ConfigurationError: there is no such folder, or no service that the patterns select.
    """
    if not root.is_dir():
        raise ConfigurationError(f"There is no folder {root}.")
    members = sorted(_search(root.absolute()), key=lambda member: member.path)
    if not members:
        raise ConfigurationError(
            f"There is no service in {root.absolute()}: no alembic.ini with a section [{SECTION}], and no env.py that "
            "calls run_env. Run the command in the root of a monorepo, or in the folder of the clones."
        )
    for pattern in only:
        if not any(_matches(member, [pattern]) for member in members):
            raise ConfigurationError(f"--only {pattern} matches no service; there are {_names(members)}.")
    selected = [member for member in members if (not only or _matches(member, only)) and not _matches(member, exclude)]
    if not selected:
        raise ConfigurationError(f"--exclude leaves no service; there are {_names(members)}.")
    return selected


def _matches(member: Member, patterns: Sequence[str]) -> bool:
    names = (member.path, member.folder.name)
    return any(fnmatchcase(name, pattern.rstrip("/")) for name in names for pattern in patterns)


def _names(members: Sequence[Member]) -> str:
    names = [member.path for member in members]
    return ", ".join(names if len(names) <= 10 else [*names[:10], f"{len(names) - 10} more"])


def _search(root: Path) -> list[Member]:
    members: list[Member] = []
    errors: list[OSError] = []
    for folder, below, files in os.walk(root, onerror=errors.append):
        below[:] = [name for name in below if not _is_skipped(Path(folder, name))]
        name = next((name for name in ("alembic.ini", "pyproject.toml") if name in files), None)
        if name:
            members += _read(root, Path(folder, name))
    folders = [(Path(os.fsdecode(error.filename)), error) for error in errors]
    # A service's own folders, such as those of a container's data, have no other service.
    outside = [item for item in folders if not any(item[0].is_relative_to(member.folder) for member in members)]
    return members + [_unreadable(root, folder / "alembic.ini", error) for folder, error in outside]


def _is_skipped(folder: Path) -> bool:
    """Whether a folder has no services of this fleet: hidden, installed, or a virtual environment."""
    return folder.name.startswith(".") or folder.name in _OTHER_FOLDERS or os.path.exists(folder / "pyvenv.cfg")


def _is_service(file: Path) -> bool:
    text = file.read_text(encoding="utf-8", errors="replace")
    if f"[{SECTION}]" in text and file.name == "alembic.ini":
        return True
    env_py = _script_location(file, text) / "env.py"
    return env_py.is_file() and bool(_CALL.search(env_py.read_text(encoding="utf-8", errors="replace")))


def _script_location(file: Path, text: str) -> Path:
    """Where `env.py` is; Alembic's usual folder if the file can't be read."""
    try:
        if file.name == "pyproject.toml":
            location = str(tomllib.loads(text).get("tool", {}).get("alembic", {}).get("script_location") or "")
        else:
            parser = configparser.RawConfigParser(strict=False)
            parser.read_string(text)
            location = parser.get("alembic", "script_location", fallback="")
    except (configparser.Error, tomllib.TOMLDecodeError, AttributeError):  # a value instead of a table
        location = ""
    return file.parent / (location.replace("%(here)s", str(file.parent)) or "alembic")


def _read(root: Path, file: Path) -> list[Member]:
    """The service of a configuration file, also if that can't be read; none if it is of something else."""
    path = file.parent.relative_to(root).as_posix()
    try:
        return [Member(path, file, Service.read(file.with_name("alembic.ini")))] if _is_service(file) else []
    except MigrationError as error:
        return [Member(path, file, None, error)]
    except OSError as error:
        return [_unreadable(root, file, error)]


def _unreadable(root: Path, file: Path, error: OSError) -> Member:
    problem = ConfigurationError(
        f"{error.filename} can't be read ({error.strerror}), so a service there may be missing."
    )
    return Member(file.parent.relative_to(root).as_posix(), file, None, problem)
