"""An Alembic project as its `env.py` describes it."""

import os
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util import coerce_resource_to_filename
from sqlalchemy import URL

from safe_migrations.errors import ConfigurationError
from safe_migrations.postgres.database import Database
from safe_migrations.service import Service, find_config_files, refuse_hidden_library
from safe_migrations.upgrade.target_metadata import explained_models

# In the attributes of Alembic's configuration: describe the project and run nothing; another database than its own.
COLLECT, DATABASE_URL = "safe_migrations.project", "safe_migrations.database_url"

DatabaseURL = URL | str | Callable[[], URL | str]


@dataclass(frozen=True)
class Project:
    """A project, whose `env.py` has called `run_env`.

    Attributes:
        config: Alembic's configuration.
        script: this code's revisions.
        service: as `alembic.ini` describes it.
        database_url: what `env.py` gives.
        options: what `context.configure` takes.
    """

    config: Config
    script: ScriptDirectory
    service: Service
    database_url: DatabaseURL
    options: dict[str, Any]

    @cached_property
    def database(self) -> Database:
        """The database to migrate.

        Raises:
            ConfigurationError: it is not configured, or not a URL of PostgreSQL.
        """
        url = self.config.attributes.get(DATABASE_URL, self.database_url)
        return Database.of(url() if callable(url) else url, self.service)

    @property
    def version_options(self) -> dict[str, Any]:
        """The options that say where Alembic records the revision."""
        return {name: value for name, value in self.options.items() if name.startswith("version_table")}

    @property
    def backfills(self) -> Path:
        """The folder of the definitions of backfills."""
        return Path(self.script.dir, "backfills")

    def new_config(self, attributes: dict[str, Any], **arguments: Any) -> Config:
        """Alembic's configuration as a new one, with arguments as Alembic's command line has them."""
        files = self.config.config_file_name, self.config.toml_file_name
        return Config(*files, cmd_opts=Namespace(**{"x": None, **arguments}), attributes=attributes)


def alembic_config(files: Sequence[str] = ()) -> Config:
    """Alembic's configuration, found as the command `alembic` finds it.

    Args:
        files: given by `-c`, `alembic.ini` and `pyproject.toml`; by default that of ALEMBIC_CONFIG, or alembic.ini.

    Raises:
        ConfigurationError: there is no such file, or the package of template 1.x is beside the file.
    """
    ini, toml = find_config_files(files)
    refuse_hidden_library(ini.parent)
    # With arguments, as on Alembic's command line, so that env.py sets up the logging.
    return Config(ini if ini.is_file() else None, toml, cmd_opts=Namespace(x=None))


def service_of(config: Config) -> Service:
    """What `alembic.ini` says of the service.

    Raises:
        ConfigurationError: the file can't be read, or has a value that can't be used.
    """
    toml = Path(config.toml_file_name or "pyproject.toml")
    return Service.read(Path(config.config_file_name or toml.with_name("alembic.ini")))


def load_project(config: Config, environment: str | None = None) -> Project:
    """Let `env.py` describe the project, without running anything; no database is needed.

    Args:
        environment: the text of an `env.py` to use in place of the file.

    Raises:
        ConfigurationError: `env.py` does not call `run_env`.
        ModelError: SQLAlchemy refuses the models that `env.py` imports.
    """
    script = ScriptDirectory.from_config(config)
    described: list[Project] = []
    config.attributes[COLLECT] = described
    try:
        with EnvironmentContext(config, script, fn=lambda *_: [], dont_mutate=True), explained_models():
            if environment is None:
                script.run_env()
            else:
                path = script.env_py_location
                exec(compile(environment, path, "exec"), {"__name__": "env_py", "__file__": path})  # noqa: S102
    finally:
        del config.attributes[COLLECT]
    if not described:
        raise ConfigurationError(
            f"{os.path.relpath(script.env_py_location)} does not call run_env. In that file, replace Alembic's two "
            "functions by:\nfrom safe_migrations import run_env\nrun_env(target_metadata=…, database_url=…)"
        )
    return described[0]


def version_folders(script_directory: ScriptDirectory) -> list[Path]:
    """The folders of the revision files; Alembic's own `versions` knows a single one."""
    locations = script_directory.version_locations or [os.path.join(script_directory.dir, "versions")]
    return [Path(coerce_resource_to_filename(location)).absolute() for location in locations]
