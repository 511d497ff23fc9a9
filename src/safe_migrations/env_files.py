"""The `.env` files of a service. The probe reads them too, so python-dotenv is imported only if there is a file."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from safe_migrations.errors import ConfigurationError, NotInstalledError

_exported: dict[str, str] = {}  # what `export` has put into the environment


def env_files(folder: Path) -> list[Path]:
    """The service's own `.env`, then the `.env` files of the folders above, which the services of a monorepo share.

    This is not `find_dotenv()`, which starts in the working directory when Python is interactive.
    """
    return [parent / ".env" for parent in (folder, *folder.parents)]


def read_env_files(folder: Path, prefixes: Collection[str]) -> dict[str, str]:
    """The variables of all `.env` files that have a value; the nearest file wins.

    A file above the service counts if it belongs to this user, to root, or to the owner of the service's folder, whose
    code runs anyway; and in it only the variables that concern the service.

    Raises:
        ConfigurationError: a file can't be read, or python-dotenv is not installed.
    """
    variables: dict[str, str] = {}
    nearest, *above = env_files(folder)
    user = os.geteuid() if hasattr(os, "geteuid") else 0  # on Windows, every file is of user 0
    trusted = {user, 0, folder.stat().st_uid}
    starts = tuple(f"{prefix}_".upper() for prefix in (*prefixes, "MIGRATION") if prefix)
    for file in reversed(above):
        if os.access(file, os.R_OK) and file.stat().st_uid in trusted:
            variables |= {name: value for name, value in _read(file).items() if name.upper().startswith(starts)}
    return variables | (_read(nearest) if nearest.exists() else {})


def export(variables: Mapping[str, str]) -> None:
    """Put variables of `.env` files into the environment of this process, whose own variables win."""
    for name, value in variables.items():
        if not os.environ.get(name):
            os.environ[name] = _exported[name] = value


def find_program(name: str) -> str | None:
    """The path of a program: beside this Python first, because .venv/bin/alembic may run without its folder on PATH."""
    import shutil  # here, because the probe does without these modules
    import sysconfig

    return shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)


def environment_of_programs(*prefixes: str) -> dict[str, str]:
    """The environment for another program: without what `export` has added, which may be a secret or code to load.

    Args:
        prefixes: of the variables that concern the program, wherever they come from.
    """
    return {
        name: value for name, value in os.environ.items() if name.startswith(prefixes) or _exported.get(name) != value
    }


def _read(file: Path) -> dict[str, str]:
    try:
        from dotenv import dotenv_values  # here, because a container has no .env and need not wait for the import
    except ModuleNotFoundError:
        raise ConfigurationError(str(NotInstalledError(f"python-dotenv, which reads {file},", "dev"))) from None
    try:
        values = dotenv_values(file, interpolate=False)  # a password may contain ${…}
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(
            f"{file} can't be read ({error}). The file must be UTF-8 text, as .env.example is, and readable for this "
            "user."
        ) from None
    return {name: value for name, value in values.items() if value}
