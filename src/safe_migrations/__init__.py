"""Safe migrations of PostgreSQL, for any Alembic project.

The names here, in `safe_migrations.operations`, in `safe_migrations.backfills` and in `safe_migrations.testing` are
public; all other modules are private, and change without notice. Each name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safe_migrations.env import run_env as run_env
    from safe_migrations.env_files import load_env_files as load_env_files
    from safe_migrations.errors import BackfillError as BackfillError
    from safe_migrations.errors import BackupError as BackupError
    from safe_migrations.errors import ConfigurationError as ConfigurationError
    from safe_migrations.errors import ConnectionFailedError as ConnectionFailedError
    from safe_migrations.errors import EmbeddedPostgresError as EmbeddedPostgresError
    from safe_migrations.errors import HistoryError as HistoryError
    from safe_migrations.errors import LockedError as LockedError
    from safe_migrations.errors import MigrationError as MigrationError
    from safe_migrations.errors import NotConfirmedError as NotConfirmedError
    from safe_migrations.errors import NotInstalledError as NotInstalledError
    from safe_migrations.errors import RefusedError as RefusedError
    from safe_migrations.errors import RevisionError as RevisionError
    from safe_migrations.errors import TemplateError as TemplateError
    from safe_migrations.postgres.connection import parse_database_url as parse_database_url
    from safe_migrations.readiness import Readiness as Readiness
    from safe_migrations.readiness import check_readiness as check_readiness
    from safe_migrations.service import Service as Service

_MODULES = {
    "run_env": "env",
    "load_env_files": "env_files",
    "BackfillError": "errors",
    "BackupError": "errors",
    "ConfigurationError": "errors",
    "ConnectionFailedError": "errors",
    "EmbeddedPostgresError": "errors",
    "HistoryError": "errors",
    "LockedError": "errors",
    "MigrationError": "errors",
    "NotConfirmedError": "errors",
    "NotInstalledError": "errors",
    "RefusedError": "errors",
    "RevisionError": "errors",
    "TemplateError": "errors",
    "parse_database_url": "postgres.connection",
    "Readiness": "readiness",
    "check_readiness": "readiness",
    "Service": "service",
}
_OF_TEMPLATE_1 = ("authoring", "environment", "hooks", "runner")  # what env.py and config.py of template 1.x import

__all__ = [
    "BackfillError",
    "BackupError",
    "ConfigurationError",
    "ConnectionFailedError",
    "EmbeddedPostgresError",
    "HistoryError",
    "LockedError",
    "MigrationError",
    "NotConfirmedError",
    "NotInstalledError",
    "Readiness",
    "RefusedError",
    "RevisionError",
    "Service",
    "TemplateError",
    "check_readiness",
    "load_env_files",
    "parse_database_url",
    "run_env",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    if name in _OF_TEMPLATE_1:
        return getattr(import_module(f"{__name__}.deprecated"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
