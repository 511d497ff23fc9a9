"""Names that a kept `database.py` of template 1.x imports; removed in release 3."""

import warnings
from pathlib import Path
from typing import Any

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from safe_migrations.postgres import server_errors, timeouts
from safe_migrations.postgres.database import Database
from safe_migrations.service import Service

_DATABASE = (
    "database.py comes from template 1.x. Replace its own functions there by: from safe_migrations import Readiness, "
    'check_readiness, and await check_readiness(engine, SERVICE_FOLDER / "alembic.ini").'
)


def gone(name: str) -> ImportError:
    """The error for a name that only the tests of template 1.x imported.

    Args:
        name: with its module.
    """
    return ImportError(
        f"{name} was part of template 1.x. If tests/conftest.py imports it, replace its fixtures by "
        'pytest_plugins = ["safe_migrations.testing"].'
    )


def _explain(error: OSError | DBAPIError, url: URL, env_prefix: str) -> str:
    service = Service(Path("alembic.ini"), env_prefix.lower(), env_prefix=env_prefix)
    return str(server_errors.explain(error, Database(url, service)))


_NAMES = {"CONNECT_TIMEOUT": timeouts.CONNECT_TIMEOUT, "explain": _explain}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        warnings.warn(_DATABASE, FutureWarning, stacklevel=2)
        return _NAMES[name]
    if name.startswith("__"):  # which Python, and tools, look for in any module
        raise AttributeError(name)
    raise gone(f"{__name__}.{name}")
