"""Alembic's environment: hands this service's models and settings to the runner."""

from logging.config import fileConfig

from alembic import context

from config import ENV_PREFIX, load_settings
from models_db import Base
from safe_migrations import authoring, hooks, runner

# On the command line only: an application that calls Alembic has logging of its own, which fileConfig would replace.
if context.config.cmd_opts is not None and context.config.config_file_name is not None:
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)

authoring.number_files(context.script)
runner.run(
    database_url=lambda: load_settings().migration_database_url,
    env_prefix=ENV_PREFIX,
    target_metadata=Base.metadata,
    compare_type=True,
    compare_server_default=True,
    autogenerate_plugins=hooks.PLUGINS,
    include_name=hooks.include_name,
    process_revision_directives=hooks.write_series,
)
