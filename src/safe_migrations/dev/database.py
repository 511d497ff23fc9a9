"""The development database: an embedded PostgreSQL cluster in the service's folder."""

import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from sqlalchemy import URL

from safe_migrations.dev.cluster import Cluster
from safe_migrations.env_files import environment_of_programs
from safe_migrations.errors import ConfigurationError, EmbeddedPostgresError, NotInstalledError
from safe_migrations.postgres.connection import run_async
from safe_migrations.postgres.creation import create_database, database_exists
from safe_migrations.postgres.database import Database, application_database, client_environment, parse_database_url
from safe_migrations.postgres.programs import find_programs
from safe_migrations.service import SECTION, Service

FOLDER = ".postgres"  # git ignores it


def development_cluster(service: Service) -> Cluster:
    """The service's embedded cluster, running or not.

    Raises:
        EmbeddedPostgresError: PostgreSQL of the version that wrote the data is not installed.
        NotInstalledError: there are no programs.
    """
    folder = service.folder / FOLDER
    try:
        written_by = int((folder / "data" / "PG_VERSION").read_text())
    except OSError:
        return Cluster(folder, find_programs(service.postgres_version))
    try:
        return Cluster(folder, find_programs(written_by, exactly=True))
    except NotInstalledError as error:
        raise EmbeddedPostgresError(
            f"PostgreSQL {written_by} wrote the data in {folder / 'data'}, but PostgreSQL {written_by} is not "
            "installed. Install this version. Or delete the data, and start with an empty database:\nrm -r "
            f"{shlex.quote(str(folder / 'data'))} && safe-migrations db-up"
        ) from error


def up(cluster: Cluster, service: Service) -> URL:
    """Start the cluster and create the database, if necessary.

    Returns:
        The database's URL, with its password.

    Raises:
        ConfigurationError: the port is not a number, or `alembic.ini` names no prefix of variables.
        EmbeddedPostgresError: the port is taken, or the server did not start.
    """
    if not service.env_prefix:
        raise ConfigurationError(
            f"{service.config_file} names no prefix for the environment variables, which configure the development "
            f"database. Write a prefix into the section [{SECTION}], such as:\nenv_prefix = {service.proposed_prefix}"
        )
    name = service.name_of_environment()
    cluster.start(service.port_of_environment())
    server = Database(cluster.url(), service)
    if not run_async(database_exists(server, name)):
        run_async(create_database(server, name))
    return cluster.url(name)


def configure(service: Service, url: URL) -> Iterator[str]:
    """Configure the service for its development database, unless another database is configured.

    Yields:
        Lines for the user: the changes, and the next command.
    """
    variable, migration = service.variable("DATABASE_URL"), service.variable("MIGRATION_DATABASE_URL")
    host = service.variable("DB_HOST")
    values = {name: service.variables.get(name) for name in (variable, migration, host)}
    if text := values[variable]:  # the same cluster on another port
        current = parse_database_url(text, variable)
        writes = current.password == url.password and current != url
    else:
        writes = (values[host] or "localhost") in ("localhost", url.host)
    if writes:
        file = service.folder / ".env"
        write_url(url, file, variable)
        yield f"{variable} was written to {file}."
    elsewhere = parse_database_url(text, migration) if (text := values[migration]) else None
    if elsewhere == url or (elsewhere is None and (writes or application_database(service).url == url)):
        yield "To create the tables, or to upgrade them:\nalembic upgrade head"
    else:
        yield (
            f"Migrations still go to {elsewhere or application_database(service).url}, which the environment or .env "
            f"configures. To use this database, remove {variable}, {migration} and {host} there, then run:\n"
            "safe-migrations db-up"
        )


def write_url(url: URL, env_file: Path, variable: str) -> None:
    """Write a database URL into .env, readable by its owner only.

    Raises:
        NotInstalledError: python-dotenv is not installed.
    """
    try:
        import dotenv  # here: db-down and db-shell do not need it
    except ModuleNotFoundError:
        raise NotInstalledError("python-dotenv", "dev") from None
    env_file.touch(mode=0o600)
    dotenv.set_key(env_file, variable, url.set(drivername="postgresql").render_as_string(hide_password=False))
    env_file.chmod(0o600)


def shell(database: Database, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by psql, connected to a database.

    Raises:
        NotInstalledError: psql is not installed.
    """
    psql = shutil.which("psql")  # psql of PATH has line editing, the wheel's has not
    if psql is None:
        with suppress(NotInstalledError):
            psql = shutil.which("psql", path=find_programs(database.service.postgres_version))
    if psql is None:
        raise NotInstalledError("psql", "dev")
    os.execve(psql, [psql, *arguments], environment_of_programs("PG") | client_environment(database.url))
