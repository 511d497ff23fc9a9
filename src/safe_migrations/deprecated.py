"""What `env.py` of template 1.x imports. It goes with release 3."""

import warnings
from types import SimpleNamespace
from typing import Any

from safe_migrations.autogenerate.plugin import PLUGINS
from safe_migrations.env import run_deprecated

_INSTEAD = (
    "alembic/env.py is of template 1.x: write from safe_migrations import run_env there, and "
    "run_env(target_metadata=…, database_url=…) in place of authoring.number_files, runner.run and hooks."
)


def _run(*, database_url: Any, env_prefix: str, **options: Any) -> None:
    warnings.warn(_INSTEAD, FutureWarning, stacklevel=2)  # shown by default, unlike DeprecationWarning
    run_deprecated(env_prefix=env_prefix, database_url=database_url, **options)


def _nothing(*_: Any) -> None:
    """`run_env` does it."""


authoring = SimpleNamespace(number_files=_nothing)
hooks = SimpleNamespace(PLUGINS=PLUGINS, include_name=lambda *_: True, write_series=_nothing)
runner = SimpleNamespace(run=_run)
