"""Alembic's environment: passes the models and the database to alembic-safe-migrations."""

from logging.config import fileConfig

from alembic import context
from safe_migrations import explain_model_errors, run_env

from config import load_settings

with explain_model_errors():
    from models_db import Base

# On the command line only: fileConfig would replace the logging of an application that calls Alembic.
if context.config.cmd_opts is not None and context.config.config_file_name is not None:
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)

run_env(target_metadata=Base.metadata, database_url=lambda: load_settings().migration_database_url)
