"""The service's settings: from the environment, then from .env files.

The variables are listed in .env.example. Secrets are `SecretStr`, and a URL shows its password as `***`.
"""

import os

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL
from sqlalchemy.exc import ArgumentError

from answers import DATABASE_NAME as DATABASE_NAME
from answers import DATABASE_PORT as DATABASE_PORT
from answers import ENV_PREFIX as ENV_PREFIX
from answers import PLATFORM_PREFIX as PLATFORM_PREFIX
from answers import POSTGRES_VERSION as POSTGRES_VERSION
from answers import SERVICE_FOLDER as SERVICE_FOLDER
from answers import SERVICE_NAME as SERVICE_NAME
from safe_migrations import environment
from safe_migrations.errors import ConfigurationError


class Settings(BaseSettings):
    """The service's settings.

    `database_url` wins over the parts, and `migration_database_url` defaults to it.
    """

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    url: SecretStr | None = Field(default=None, validation_alias=f"{ENV_PREFIX}_DATABASE_URL")
    migration_url: SecretStr | None = Field(default=None, validation_alias=f"{ENV_PREFIX}_MIGRATION_DATABASE_URL")

    rehearsal_url: SecretStr | None = Field(default=None, validation_alias=f"{ENV_PREFIX}_REHEARSAL_DATABASE_URL")

    db_host: str = Field(default="localhost", validation_alias=f"{ENV_PREFIX}_DB_HOST")
    db_port: int = Field(default=DATABASE_PORT, ge=1, le=65535, validation_alias=f"{ENV_PREFIX}_DB_PORT")
    db_name: str = Field(default=DATABASE_NAME, validation_alias=f"{ENV_PREFIX}_DB_NAME")
    db_user: str | None = Field(default=None, validation_alias=f"{PLATFORM_PREFIX}_DB_USER")
    db_password: SecretStr | None = Field(default=None, validation_alias=f"{PLATFORM_PREFIX}_DB_PASSWORD")

    # The application's pool, see database.py. Connections that all replicas may open together: replicas x (size +
    # overflow), which has to stay below PostgreSQL's max_connections.
    db_pool_size: int = Field(default=5, ge=1, validation_alias=f"{ENV_PREFIX}_DB_POOL_SIZE")
    db_pool_overflow: int = Field(default=5, ge=0, validation_alias=f"{ENV_PREFIX}_DB_POOL_OVERFLOW")
    db_pool_timeout: float = Field(default=10, gt=0, validation_alias=f"{ENV_PREFIX}_DB_POOL_TIMEOUT")  # seconds

    @property
    def database_url(self) -> URL:
        """Where the application connects, for the asyncpg driver.

        Raises:
            ConfigurationError: it is not configured, or not a URL of PostgreSQL.
        """
        if self.url is not None:
            return _parse(self.url, "DATABASE_URL")
        if self.db_user is None or self.db_password is None:
            raise environment.not_configured()
        password = self.db_password.get_secret_value()
        return URL.create("postgresql+asyncpg", self.db_user, password, self.db_host, self.db_port, self.db_name)

    @property
    def migration_database_url(self) -> URL:
        """Where migrations connect: as the tables' owner, and directly where the application uses a pooler.

        Raises:
            ConfigurationError: it is not configured, or not a URL of PostgreSQL.
        """
        if self.migration_url is None:
            return self.database_url
        return _parse(self.migration_url, "MIGRATION_DATABASE_URL")

    @property
    def rehearsal_database_url(self) -> URL:
        """A database of the server on which migrations are rehearsed: theirs by default.

        Raises:
            ConfigurationError: it is not configured, or not a URL of PostgreSQL.
        """
        if self.rehearsal_url is None:
            return self.migration_database_url
        return _parse(self.rehearsal_url, "REHEARSAL_DATABASE_URL")


def load_settings() -> Settings:
    """Read the settings; variables of the environment win over those in .env.

    Raises:
        ConfigurationError: a file can't be read, or a value can't be used.
    """
    for name, value in environment.read_env_files().items():
        if not os.environ.get(name):
            os.environ[name] = value
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors())
        message = f"Correct these settings, in the environment or in {environment.ENV_FILES[0]}: {problems}."
        raise ConfigurationError(message) from None


def parse_database_url(text: str, variable: str) -> URL:
    """Make a URL for asyncpg of one as platforms hand them out.

    Args:
        text: the URL, such as `postgres://USER:PASSWORD@HOST/DATABASE?sslmode=require`.
        variable: the environment variable that it came from, to name it in an error; its value is not shown.

    Raises:
        ConfigurationError: it is not a URL of PostgreSQL, or has a parameter that asyncpg does not take.
    """
    url = URL.create("postgresql+asyncpg", *environment.parse_address(text, variable))
    try:
        url.get_dialect()().create_connect_args(url)
        if not 1 <= (url.port or 5432) <= 65535:
            raise ValueError("a port is a number from 1 to 65535")
    except (ArgumentError, ValueError) as error:
        message = f"{variable} can't be used ({error}): correct its hosts, ports or parameters."
        raise ConfigurationError(message) from None
    return url


def _parse(secret: SecretStr, name: str) -> URL:
    url = parse_database_url(secret.get_secret_value(), f"{ENV_PREFIX}_{name}")
    return url.set(database=url.database or DATABASE_NAME)
