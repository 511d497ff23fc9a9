"""Alembic's environment: passes the models and the database to alembic-safe-migrations."""

from logging.config import fileConfig

from alembic import context
from safe_migrations import run_env
from sqlalchemy import MetaData

from config import load_settings


def target_metadata() -> MetaData:
    """The models' tables; imported here, so that a mistake in the models ends with one sentence."""
    from models_db import Base

    return Base.metadata


# On the command line only: fileConfig would replace the logging of an application that calls Alembic.
if context.config.cmd_opts is not None and context.config.config_file_name is not None:
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)

run_env(target_metadata=target_metadata, database_url=lambda: load_settings().migration_database_url)
