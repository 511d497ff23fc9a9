"""Settings of {{ service_name }}: from the environment, then from .env files.

The variables are listed in .env.example. Secrets are `SecretStr`, and a URL shows its password as `***`.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from safe_migrations.errors import ConfigurationError

SERVICE_NAME = "{{ service_name }}"
ENV_PREFIX = "{{ env_prefix }}"
PLATFORM_PREFIX = "{{ platform_prefix }}"
DATABASE_NAME = "{{ database_name }}"
DATABASE_PORT = {{ database_port }}
POSTGRES_VERSION = {{ postgres_version }}
SERVICE_FOLDER = Path(__file__).resolve().parent
# The service's own .env, then those of the folders above it: a monorepo keeps there what its services share. Not
# find_dotenv(), which starts from the working directory when Python is interactive.
ENV_FILES = [folder / ".env" for folder in (SERVICE_FOLDER, *SERVICE_FOLDER.parents)]

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# What asyncpg, or SQLAlchemy's dialect for it, takes in a URL; and what has no counterpart there and no effect on
# what the URL means, so that URLs work as platforms hand them out.
ASYNCPG_PARAMETERS = {"host", "port", "ssl", "target_session_attrs", "prepared_statement_cache_size"}
IGNORED_PARAMETERS = {"application_name", "channel_binding", "connect_timeout", "gssencmode"}


class Settings(BaseSettings):
    """The service's settings.

    `database_url` wins over the parts, and `migration_database_url` defaults to it.
    """

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    url: SecretStr | None = Field(default=None, validation_alias=f"{ENV_PREFIX}_DATABASE_URL")
    migration_url: SecretStr | None = Field(default=None, validation_alias=f"{ENV_PREFIX}_MIGRATION_DATABASE_URL")

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
            return _with_database(parse_database_url(self.url.get_secret_value(), f"{ENV_PREFIX}_DATABASE_URL"))
        if self.db_user is None or self.db_password is None:
            raise ConfigurationError(
                f"No database is configured for {SERVICE_NAME}: set {ENV_PREFIX}_DATABASE_URL, or "
                f"{PLATFORM_PREFIX}_DB_USER and {PLATFORM_PREFIX}_DB_PASSWORD, in the environment or in {ENV_FILES[0]} "
                "(.env.example shows how; for a development database: pdm run db-up)."
            )
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
        variable = f"{ENV_PREFIX}_MIGRATION_DATABASE_URL"
        return _with_database(parse_database_url(self.migration_url.get_secret_value(), variable))


def load_settings() -> Settings:
    """Read the settings; variables of the environment win over those in .env.

    Raises:
        ConfigurationError: a file can't be read, or a value can't be used.
    """
    for name, value in read_env_files().items():
        if not os.environ.get(name):
            os.environ[name] = value
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors())
        message = f"Correct these settings, in the environment or in {ENV_FILES[0]}: {problems}."
        raise ConfigurationError(message) from None


def read_env_files() -> dict[str, str]:
    """The variables of all .env files that have a value; the nearest file wins.

    Raises:
        ConfigurationError: a file can't be read.
    """
    variables: dict[str, str] = {}
    for file in reversed(ENV_FILES):
        if file != ENV_FILES[0] and not os.access(file, os.R_OK):
            continue  # somebody else's
        try:
            values = dotenv_values(file, interpolate=False)  # a password may contain ${…}
        except (OSError, UnicodeError) as error:
            message = f"{file} can't be read ({error}): make it a UTF-8 text file of yours, as .env.example is."
            raise ConfigurationError(message) from None
        variables.update({name: value for name, value in values.items() if value})
    return variables


def parse_database_url(text: str, variable: str) -> URL:
    """Make a URL for asyncpg of one as platforms hand them out.

    Args:
        text: the URL, such as `postgres://USER:PASSWORD@HOST/DATABASE?sslmode=require`.
        variable: the environment variable that it came from, to name it in an error; its value is not shown.

    Raises:
        ConfigurationError: it is not a URL of PostgreSQL, or has a parameter that asyncpg does not take.
    """
    url = None
    with suppress(ArgumentError, ValueError):  # whose messages hold the URL
        url = make_url(text)
    # A second @ stands in a password that is not encoded, and puts half of it into the host's place.
    if url is None or not url.drivername.startswith("postgres") or text.count("@") > 1:
        raise ConfigurationError(
            f"{variable} is not a URL of PostgreSQL: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with the "
            "special characters of user and password percent-encoded."
        )
    url = url.set(drivername="postgresql+asyncpg", query=_asyncpg_parameters(url, variable))
    try:
        url.get_dialect()().create_connect_args(url)
        if not 1 <= (url.port or 5432) <= 65535:
            raise ValueError("a port is a number from 1 to 65535")
    except (ArgumentError, ValueError) as error:
        message = f"{variable} can't be used ({error}): correct its hosts, ports or parameters."
        raise ConfigurationError(message) from None
    return url


def _with_database(url: URL) -> URL:
    return url.set(database=url.database or DATABASE_NAME)


def _asyncpg_parameters(url: URL, variable: str) -> dict[str, Any]:
    parameters = {name: value for name, value in url.query.items() if name not in IGNORED_PARAMETERS}
    if "sslmode" in parameters:
        parameters["ssl"] = parameters.pop("sslmode")
    if parameters.get("ssl", "prefer") not in SSL_MODES:
        raise ConfigurationError(f"{variable} has an unknown ssl or sslmode: write one of {', '.join(SSL_MODES)}.")
    if unknown := sorted(parameters.keys() - ASYNCPG_PARAMETERS):
        raise ConfigurationError(
            f"{variable} has the parameter {unknown[0]}, which asyncpg does not take in a URL: remove it "
            "(sslrootcert, sslcert and sslkey go into PGSSLROOTCERT, PGSSLCERT and PGSSLKEY)."
        )
    return parameters
