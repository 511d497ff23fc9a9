"""The services in a folder, found by what they are: `alembic.ini` has our section, or `env.py` calls `run_env`."""

import configparser
import os
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from safe_migrations.errors import ConfigurationError, MigrationError
from safe_migrations.service import SECTION, Service

_OTHER_FOLDERS = {"__pycache__", "node_modules", "site-packages"}
_CALL = re.compile(r"^(?!\s*#).*\brun_env\s*\(", re.MULTILINE)


@dataclass(frozen=True)
class Member:
    """A service of the fleet.

    Attributes:
        path: of its folder, relative to the fleet's folder; this names the service in tables and messages.
        config_file: its `alembic.ini`, or the `pyproject.toml` that has Alembic's configuration.
        service: what `alembic.ini` says of it; None if the file can't be read.
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
        depth = len(Path(self.path).parts)
        folders = (folder / ".venv" for folder in (self.folder, *self.folder.parents[:depth]))
        return next((folder for folder in folders if folder.joinpath("pyvenv.cfg").is_file()), None)


def find_services(root: Path, only: Sequence[str] = (), exclude: Sequence[str] = ()) -> list[Member]:
    """Find the services in a folder, in any depth, in the order of their paths.

    Args:
        root: the root of a monorepo, or a folder of clones.
        only: patterns as in a shell; a service's path or the name of its folder must match one. None stands for all.
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


def _search(root: Path) -> Iterator[Member]:
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if not _is_skipped(Path(folder, name))]
        name = next((name for name in ("alembic.ini", "pyproject.toml") if name in files), None)
        if name and _is_service(file := Path(folder, name)):
            yield _read(root, file)


def _is_skipped(folder: Path) -> bool:
    """Whether a folder has no services of this fleet: hidden, installed, or a virtual environment."""
    return folder.name.startswith(".") or folder.name in _OTHER_FOLDERS or folder.joinpath("pyvenv.cfg").exists()


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
    except (configparser.Error, tomllib.TOMLDecodeError):
        location = ""
    return file.parent / (location.replace("%(here)s", str(file.parent)) or "alembic")


def _read(root: Path, file: Path) -> Member:
    path = file.parent.relative_to(root).as_posix()
    try:
        return Member(path, file, Service.read(file.with_name("alembic.ini")))
    except MigrationError as error:
        return Member(path, file, None, error)
