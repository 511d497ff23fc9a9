"""`python -m safe_migrations state --quick`: is the database at this code's head? For a probe that runs often.

It imports neither SQLAlchemy nor Alembic nor pydantic, which take most of the time that `alembic current` takes.
"""

import asyncio
import os
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from answers import DATABASE_NAME, DATABASE_PORT, ENV_PREFIX, PLATFORM_PREFIX, SERVICE_FOLDER, SERVICE_NAME
from safe_migrations import environment
from safe_migrations.environment import Address
from safe_migrations.errors import ConfigurationError, ConnectionFailedError, MigrationError

AT_HEAD, UNKNOWN, EMPTY, BEHIND, NEWER, SEVERAL_HEADS = 0, 1, 3, 4, 6, 7
TIMEOUT = 10.0  # seconds
REVISION = re.compile(r"""^revision\b[^=]*=[\s(]*["']([^"']+)["']""", re.MULTILINE)
DOWN_REVISION = re.compile(r"""^down_revision\b[^=]*=\s*(\([^)]*\)|\[[^\]]*\]|"[^"]*"|'[^']*')""", re.MULTILINE)


def main() -> int:
    """Print one sentence on the database's revision; returns the exit status."""
    try:
        heads, known = read_revisions(SERVICE_FOLDER / "alembic" / "versions")
        current = asyncio.run(_current_revisions(read_address()))
    except MigrationError as error:
        print(error, file=sys.stderr)
        return UNKNOWN
    status, sentence = _compare(current, heads, known)
    print(sentence)
    return status


def read_revisions(folder: Path) -> tuple[set[str], set[str]]:
    """The heads among the revisions of a folder, and all of them, without running the files.

    Args:
        folder: where the revision files are.

    Raises:
        ConfigurationError: there is none, or one can't be read.
    """
    known, before = set(), set()
    try:
        for file in folder.glob("[!.]*.py"):  # not an editor's own, as Alembic
            text = file.read_text(encoding="utf-8")
            if revision := REVISION.search(text):
                known.add(revision[1])
                down_revision = DOWN_REVISION.search(text)
                before.update(re.findall(r"""["']([^"']+)["']""", down_revision[1] if down_revision else ""))
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"A revision in {folder} can't be read ({error}): correct that file.") from None
    if not known:
        raise ConfigurationError(f"No revision is in {folder}: restore its files, as they are in the repository.")
    return known - before, known


def read_address() -> Address:
    """Where the application connects, as `Settings.database_url` of config.py.

    Raises:
        ConfigurationError: it is not configured, or not a URL of PostgreSQL.
    """
    given = environment.read_env_files() | {name: value for name, value in os.environ.items() if value}
    variables = {name.upper(): value for name, value in given.items()}  # pydantic takes small letters, too
    if url := variables.get(f"{ENV_PREFIX}_DATABASE_URL"):
        address = environment.parse_address(url, f"{ENV_PREFIX}_DATABASE_URL")
        return address._replace(database=address.database or DATABASE_NAME)
    user, password = variables.get(f"{PLATFORM_PREFIX}_DB_USER"), variables.get(f"{PLATFORM_PREFIX}_DB_PASSWORD")
    if user is None or password is None:
        raise environment.not_configured()
    host = variables.get(f"{ENV_PREFIX}_DB_HOST", "localhost")
    port = variables.get(f"{ENV_PREFIX}_DB_PORT", str(DATABASE_PORT))
    if not port.isdecimal():
        raise ConfigurationError(f"{ENV_PREFIX}_DB_PORT is not a number: write one from 1 to 65535.")
    return Address(user, password, host, int(port), variables.get(f"{ENV_PREFIX}_DB_NAME", DATABASE_NAME), {})


def connect_arguments(address: Address) -> dict[str, Any]:
    """What asyncpg takes to connect there, as SQLAlchemy's dialect makes it of the same URL.

    Args:
        address: where the database is.

    Raises:
        ConfigurationError: several hosts of a URL have not as many ports.
    """
    parameters = address.parameters
    hosts, ports = _listed(parameters.get("host") or address.host), _listed(parameters.get("port"))
    if not ports and all(re.fullmatch(r"[^:/]*:\d+", host) for host in hosts):  # host=one:5432&host=two:5432
        hosts, ports = [host.partition(":")[0] for host in hosts], [host.partition(":")[2] for host in hosts]
    if not all(port.isdecimal() for port in ports) or (len(ports) != len(hosts) and max(len(hosts), len(ports)) > 1):
        raise ConfigurationError(
            f"{ENV_PREFIX}_DATABASE_URL can't be used (number of hosts and ports don't match): "
            "correct its hosts, ports or parameters."
        )
    return {
        "host": hosts or None,
        "port": [int(port) for port in ports] or address.port,
        "user": address.user or None,
        "password": address.password or None,
        "database": address.database,
        "ssl": parameters.get("ssl"),
        "target_session_attrs": parameters.get("target_session_attrs"),
    }


def _listed(value: str | list[str] | None) -> list[str]:
    return value.split(",") if isinstance(value, str) else value or []


async def _current_revisions(address: Address) -> set[str]:
    arguments = connect_arguments(address)
    place = f"{address.host or address.parameters.get('host') or 'localhost'}:{address.port or 5432}"
    settings = f"{ENV_PREFIX}_DATABASE_URL or the parts (see .env.example)"
    try:
        return await asyncio.wait_for(_fetch_revisions(arguments), TIMEOUT)
    except TimeoutError:
        reason = f"no answer within {TIMEOUT:g} s"
    except ConnectionRefusedError:
        reason = "connection refused; for development, pdm run db-up starts it"
    except Exception as error:  # asyncpg has many kinds, and a probe shows no traceback
        reason = " ".join(str(error).split()) or type(error).__name__
    raise ConnectionFailedError(f"PostgreSQL at {place} did not tell its revision ({reason}): correct {settings}.")


async def _fetch_revisions(arguments: dict[str, Any]) -> set[str]:
    connection = await asyncpg.connect(
        **arguments,
        timeout=TIMEOUT,
        statement_cache_size=0,  # a pooler gives each transaction another session
        server_settings={"application_name": SERVICE_NAME},
    )
    try:
        async with connection.transaction(readonly=True):
            return {row["version_num"] for row in await connection.fetch("SELECT version_num FROM alembic_version")}
    except asyncpg.UndefinedTableError:
        return set()
    finally:
        await connection.close()


def _compare(current: set[str], heads: set[str], known: set[str]) -> tuple[int, str]:
    found, expected = _names(current), _names(heads)
    if len(heads) > 1:
        return (
            SEVERAL_HEADS,
            f"This code has several heads, {expected}: python -m safe_migrations rebase",
        )
    if not current:
        return EMPTY, (
            f"The database has no revision yet, this code expects {expected}: run alembic upgrade head "
            "(python -m safe_migrations state looks closer)."
        )
    if current - known:
        return NEWER, (
            f"The database is at revision {found}, which this code does not know: it is newer than this code, which an "
            "old replica may count as ready while a release is rolled out."
        )
    if current != heads:
        return BEHIND, f"The database is at revision {found}, this code expects {expected}: run alembic upgrade head"
    return AT_HEAD, f"The database is at head, revision {found}."


def _names(revisions: Collection[str]) -> str:
    return ", ".join(sorted(revisions))
