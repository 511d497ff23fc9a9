"""What the environment and the .env files say. The settings and the quick probe read it, so it imports no library."""

import os
import re
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

from answers import ENV_PREFIX, PLATFORM_PREFIX, SERVICE_FOLDER, SERVICE_NAME
from safe_migrations.errors import ConfigurationError

# The service's own .env, then those of the folders above it: a monorepo keeps there what its services share. Not
# find_dotenv(), which starts from the working directory when Python is interactive.
ENV_FILES = [folder / ".env" for folder in (SERVICE_FOLDER, *SERVICE_FOLDER.parents)]

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# What asyncpg, or SQLAlchemy's dialect for it, takes in a URL; and what has no counterpart there and no effect on
# what the URL means, so that URLs work as platforms hand them out.
ASYNCPG_PARAMETERS = {"host", "port", "ssl", "target_session_attrs", "prepared_statement_cache_size"}
IGNORED_PARAMETERS = {"application_name", "channel_binding", "connect_timeout", "gssencmode"}

# As SQLAlchemy reads a URL: urllib.parse would end a password that is not encoded at its first slash or #.
URL = re.compile(
    r"postgres[\w+]*://(?:([^:/]*)(?::([^@]*))?@)?(?:\[([^/?]+)\]|([^/:?]+))?(?::([^/?]*))?(?:/([^?]*))?(?:\?(.*))?"
)


class Address(NamedTuple):
    """Where a database is; a URL has the same parts, in this order."""

    user: str | None
    password: str | None
    host: str | None
    port: int | None
    database: str | None
    parameters: dict[str, str | list[str]]


def read_env_files() -> dict[str, str]:
    """The variables of all .env files that have a value; the nearest file wins.

    Raises:
        ConfigurationError: a file can't be read.
    """
    variables: dict[str, str] = {}
    for file in reversed(ENV_FILES):
        if not os.access(file, os.F_OK if file == ENV_FILES[0] else os.R_OK):
            continue  # not there, or somebody else's
        from dotenv import dotenv_values  # here, because a container has no .env and need not wait for the import

        try:
            values = dotenv_values(file, interpolate=False)  # a password may contain ${…}
        except (OSError, UnicodeError) as error:
            message = f"{file} can't be read ({error}): make it a UTF-8 text file of yours, as .env.example is."
            raise ConfigurationError(message) from None
        variables.update({name: value for name, value in values.items() if value})
    return variables


def not_configured() -> ConfigurationError:
    """The error that there is neither a URL nor a login."""
    return ConfigurationError(
        f"No database is configured for {SERVICE_NAME}: set {ENV_PREFIX}_DATABASE_URL, or "
        f"{PLATFORM_PREFIX}_DB_USER and {PLATFORM_PREFIX}_DB_PASSWORD, in the environment or in {ENV_FILES[0]} "
        "(.env.example shows how; for a development database: pdm run db-up)."
    )


def parse_address(text: str, variable: str) -> Address:
    """Read a URL as platforms hand them out.

    Args:
        text: the URL, such as `postgres://USER:PASSWORD@HOST/DATABASE?sslmode=require`.
        variable: the environment variable that it came from, to name it in an error; its value is not shown.

    Raises:
        ConfigurationError: it is not a URL of PostgreSQL, or has a parameter that asyncpg does not take.
    """
    url = URL.match(text)
    # A second @ stands in a password that is not encoded, and puts half of it into the host's place.
    if url is None or text.count("@") > 1 or not (url[5] or "0").isdecimal():
        raise ConfigurationError(
            f"{variable} is not a URL of PostgreSQL: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with the "
            "special characters of user and password percent-encoded."
        )
    user, password, database = (part if part is None else unquote(part) for part in url.group(1, 2, 6))
    port = int(url[5]) if url[5] else None
    return Address(user, password, url[3] or url[4], port, database, _asyncpg_parameters(url[7] or "", variable))


def _asyncpg_parameters(query: str, variable: str) -> dict[str, str | list[str]]:
    parameters: dict[str, str | list[str]] = {
        name: values if len(values) > 1 else values[0]
        for name, values in parse_qs(query).items()
        if name not in IGNORED_PARAMETERS
    }
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
