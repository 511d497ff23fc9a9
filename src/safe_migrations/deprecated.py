"""Names that kept files of template 1.x import; removed in release 3, as is `connection`."""

import warnings
from contextlib import suppress
from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from alembic import context

from safe_migrations import env_files
from safe_migrations.address import parse_address
from safe_migrations.autogenerate.plugin import PLUGINS
from safe_migrations.connection import gone
from safe_migrations.env import run_deprecated
from safe_migrations.errors import MigrationError
from safe_migrations.service import Service, refuse_hidden_library
from safe_migrations.upgrade.project import service_of

_ENV = (
    "alembic/env.py comes from template 1.x. Replace authoring.number_files, runner.run and hooks there by: "
    "from safe_migrations import run_env, and run_env(target_metadata=…, database_url=…)."
)
_CONFIG = (
    "config.py comes from template 1.x. Replace environment there by: from safe_migrations import Service, "
    "load_env_files, parse_database_url, and move what it imports from answers.py into config.py itself."
)


@cache  # once: a command may run env.py several times, and each time it is a new module
def _warn(instead: str, stacklevel: int) -> None:
    warnings.warn(instead, FutureWarning, stacklevel)  # shown by default, unlike DeprecationWarning


def _run(*, database_url: Any, env_prefix: str, **options: Any) -> None:
    with suppress(MigrationError):  # run_deprecated raises it again, and it matters more than the warning
        service_of(context.config)
        _warn(_ENV, 3)
    run_deprecated(env_prefix=env_prefix, database_url=database_url, **options)


def _nothing(*_: Any) -> None:
    """`run_env` does it."""


def _environment() -> SimpleNamespace:
    """What `config.py` imports, for the service of the `answers.py` that it has imported."""
    try:
        answers = import_module("answers")
    except ModuleNotFoundError:
        raise gone("safe_migrations.environment") from None
    with suppress(MigrationError):
        refuse_hidden_library(answers.SERVICE_FOLDER)
        _warn(_CONFIG, 5)
    service = Service(
        answers.SERVICE_FOLDER / "alembic.ini",
        answers.SERVICE_NAME,
        env_prefix=answers.ENV_PREFIX,
        platform_prefix=answers.PLATFORM_PREFIX,
    )
    return SimpleNamespace(
        ENV_FILES=env_files.env_files(service.folder),
        read_env_files=lambda: env_files.read_env_files(service.folder, (service.env_prefix, service.platform_prefix)),
        not_configured=service.not_configured,
        parse_address=parse_address,
    )


authoring = SimpleNamespace(number_files=_nothing)
hooks = SimpleNamespace(PLUGINS=PLUGINS, include_name=lambda *_: True, write_series=_nothing)
runner = SimpleNamespace(run=_run)


def __getattr__(name: str) -> Any:
    if name == "environment":
        return _environment()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
