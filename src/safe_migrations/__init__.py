"""Safe migrations of PostgreSQL, for any Alembic project.

The names here, in `safe_migrations.operations`, in `safe_migrations.backfills` and in `safe_migrations.testing` are
public; all other modules are private, and change without notice. Names that need a library are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from safe_migrations.errors import (
    AdoptionError,
    BackfillError,
    BackupError,
    ConfigurationError,
    ConnectionFailedError,
    EmbeddedPostgresError,
    HistoryError,
    LockedError,
    MigrationError,
    ModelError,
    NotConfirmedError,
    NotInstalledError,
    RefusedError,
    RevisionError,
    TemplateError,
)

if TYPE_CHECKING:
    from safe_migrations.env import explain_model_errors, run_env
    from safe_migrations.postgres.database import parse_database_url
    from safe_migrations.readiness import Readiness, check_readiness
    from safe_migrations.service import Service, load_env_files

_MODULES = {
    "run_env": "env",
    "explain_model_errors": "env",
    "load_env_files": "service",
    "parse_database_url": "postgres.database",
    "Readiness": "readiness",
    "check_readiness": "readiness",
    "Service": "service",
}
_OF_TEMPLATE_1 = ("authoring", "environment", "hooks", "runner")  # what env.py and config.py of template 1.x import

__all__ = [
    "AdoptionError",
    "BackfillError",
    "BackupError",
    "ConfigurationError",
    "ConnectionFailedError",
    "EmbeddedPostgresError",
    "HistoryError",
    "LockedError",
    "MigrationError",
    "ModelError",
    "NotConfirmedError",
    "NotInstalledError",
    "Readiness",
    "RefusedError",
    "RevisionError",
    "Service",
    "TemplateError",
    "check_readiness",
    "explain_model_errors",
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
