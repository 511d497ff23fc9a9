"""The PostgreSQL of a developer's machine: an embedded cluster below the service's folder."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from sqlalchemy import URL

from safe_migrations.dev.cluster import Cluster
from safe_migrations.errors import ConfigurationError, EmbeddedPostgresError, NotInstalledError
from safe_migrations.postgres.connection import (
    Database,
    application_database,
    client_environment,
    parse_database_url,
    run_async,
)
from safe_migrations.postgres.databases import create_database, database_exists
from safe_migrations.postgres.programs import find_programs
from safe_migrations.service import SECTION, Service

FOLDER = ".postgres"  # git ignores it


def development_cluster(service: Service) -> Cluster:
    """The service's embedded cluster, running or not.

    Args:
        service: whose it is.

    Raises:
        EmbeddedPostgresError: there are no programs, or none of the version that has written the data.
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
            f"PostgreSQL {written_by} has written {folder / 'data'}, and its programs are not installed any more: "
            "install them, or remove that folder to begin anew."
        ) from error


def up(cluster: Cluster, service: Service) -> URL:
    """Start the cluster and create the database, unless that is done already.

    Args:
        cluster: the service's embedded cluster.
        service: whose it is.

    Returns:
        The database's URL, with its password.

    Raises:
        ConfigurationError: the port is not a number, or `alembic.ini` names no prefix of variables.
        EmbeddedPostgresError: the port is taken, or the server did not start.
    """
    if not service.env_prefix:
        raise ConfigurationError(
            f"A development database is configured by variables, and {service.config_file} names no prefix for them: "
            f"write env_prefix = ORDERS into its section [{SECTION}]."
        )
    name = service.name_of_environment()
    cluster.start(service.port_of_environment())
    server = Database(cluster.url(), service)
    if not run_async(database_exists(server, name)):
        run_async(create_database(server, name))
    return cluster.url(name)


def configure(service: Service, url: URL) -> Iterator[str]:
    """Configure the service for its development database, unless another one is configured.

    Args:
        service: whose it is.
        url: of the development database.

    Yields:
        What was done, and what to do next, as sentences.
    """
    variable, migration = service.variable("DATABASE_URL"), service.variable("MIGRATION_DATABASE_URL")
    host = service.variable("DB_HOST")
    given = {name: service.variables.get(name) for name in (variable, migration, host)}
    if text := given[variable]:  # of this cluster, but on another port
        current = parse_database_url(text, variable)
        writes = current.password == url.password and current != url
    else:
        writes = (given[host] or "localhost") in ("localhost", url.host)
    if writes:
        file = service.folder / ".env"
        write_url(url, file, variable)
        yield f"{variable} is now in {file}."
    elsewhere = parse_database_url(text, migration) if (text := given[migration]) else None
    if elsewhere == url or (elsewhere is None and (writes or application_database(service).url == url)):
        yield "Next: pdm run migrate-upgrade"
    else:
        yield (
            f"Migrations still go to {elsewhere or application_database(service).url}, as configured in the "
            f"environment or in .env. To use this database, remove {variable}, {migration} and {host} from there; then "
            "pdm run db-up."
        )


def write_url(url: URL, env_file: Path, variable: str) -> None:
    """Write a database URL into .env, readable by its owner only.

    Args:
        url: the URL, with its password.
        env_file: the .env; made if there is none, and otherwise kept but for this variable.
        variable: the variable's name.
    """
    try:
        import dotenv  # here: db-down and db-shell do without
    except ModuleNotFoundError:
        raise NotInstalledError("python-dotenv", "dev") from None
    env_file.touch(mode=0o600)
    dotenv.set_key(env_file, variable, url.set(drivername="postgresql").render_as_string(hide_password=False))
    env_file.chmod(0o600)


def shell(database: Database) -> NoReturn:
    """Become psql on a database.

    Args:
        database: to open.

    Raises:
        MigrationError: there is no psql.
    """
    psql = shutil.which("psql")  # that of PATH can edit lines
    if psql is None:
        with suppress(NotInstalledError):
            psql = shutil.which("psql", path=find_programs(database.service.postgres_version))
    if psql is None:
        raise NotInstalledError("psql", "dev")
    os.execve(psql, [psql], os.environ | client_environment(database.url))
