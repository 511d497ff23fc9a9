"""The `.env` files of a service. The probe reads them too, so python-dotenv is imported only if there is a file."""

import os
from pathlib import Path

from safe_migrations.errors import ConfigurationError, NotInstalledError


def env_files(folder: Path) -> list[Path]:
    """The service's own `.env`, then those of the folders above it, which the services of a monorepo share.

    This is not `find_dotenv()`, which starts in the working directory when Python is interactive.

    Args:
        folder: of the service.
    """
    return [parent / ".env" for parent in (folder, *folder.parents)]


def read_env_files(folder: Path) -> dict[str, str]:
    """The variables of all `.env` files that have a value; the nearest file wins.

    Args:
        folder: of the service.

    Raises:
        ConfigurationError: a file can't be read, or python-dotenv is not installed.
    """
    variables: dict[str, str] = {}
    nearest, *above = env_files(folder)
    for file in (*reversed(above), nearest):
        if os.access(file, os.F_OK if file == nearest else os.R_OK):  # those above may be another user's
            variables |= _read(file)
    return variables


def load_env_files(folder: Path) -> None:
    """Put the variables of all `.env` files into the environment, whose own variables win.

    Args:
        folder: of the service.

    Raises:
        ConfigurationError: a file can't be read, or python-dotenv is not installed.
    """
    for name, value in read_env_files(folder).items():
        if not os.environ.get(name):
            os.environ[name] = value


def _read(file: Path) -> dict[str, str]:
    try:
        from dotenv import dotenv_values  # here, because a container has no .env and need not wait for the import
    except ModuleNotFoundError:
        raise ConfigurationError(str(NotInstalledError(f"python-dotenv, which reads {file},", "dev"))) from None
    try:
        values = dotenv_values(file, interpolate=False)  # a password may contain ${…}
    except (OSError, UnicodeError) as error:
        message = f"{file} can't be read ({error}); it must be a UTF-8 text file that you may read, as .env.example is."
        raise ConfigurationError(message) from None
    return {name: value for name, value in values.items() if value}
