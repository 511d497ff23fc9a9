"""The databases that `fleet reset` may delete: certain development databases of services."""

import asyncio
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import URL

from safe_migrations.dev.cluster import HOST, USER, free_port
from safe_migrations.dev.database import FOLDER
from safe_migrations.errors import EmbeddedPostgresError, NotConfirmedError
from safe_migrations.fleet.compose import ComposeDatabase, find_compose_database
from safe_migrations.fleet.services import Member
from safe_migrations.postgres.database import application_database, parse_database_url
from safe_migrations.printable import printable
from safe_migrations.service import Service

TIMEOUT = 10.0  # seconds, for a server that does not answer
_LOOPBACK = (None, "localhost", HOST, "::1")
# Words as such; and `prod` also inside of one, such as `preprod`, except in product, produce or prodigy.
_PRODUCTION = re.compile(r"prod(?!uc(?!tion)|ig)|prd|staging|(?<![a-z])(live|stage|stg)(?![a-z])", re.IGNORECASE)
_CLOCK = 60  # seconds, by which the time of a file and that of a cluster may differ

_SESSIONS = """
    SELECT DISTINCT format('%s of user %s in %s', coalesce(nullif(application_name, ''), '?'), usename, datname)
    FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> 'safe-migrations' ORDER BY 1
"""
_DATABASES = """
    SELECT datname AS name, pg_size_pretty(pg_database_size(oid)) AS size
    FROM pg_database WHERE datallowconn AND NOT datistemplate AND datname <> 'postgres' ORDER BY 1
"""
_ROWS = "SELECT coalesce(sum(n_live_tup), 0)::bigint FROM pg_stat_user_tables"


@dataclass(frozen=True)
class DevelopmentDatabase:
    """A development database that may be deleted, or does not exist yet.

    Attributes:
        member: the service.
        port: where it will listen.
        contents: what will be destroyed, a line for each; empty if there is nothing.
        folder: of the embedded cluster.
        is_running: whether the embedded cluster runs.
        compose: the service of a compose project, where the database is none of an embedded cluster.
    """

    member: Member
    port: int
    contents: tuple[str, ...]
    folder: Path
    is_running: bool = False
    compose: ComposeDatabase | None = None


def examine(member: Member) -> DevelopmentDatabase:
    """Find the development database of a service, and change nothing.

    Raises:
        MigrationError: says why it is not certain that this is a development database.
    """
    if member.problem:
        raise member.problem
    service = member.service
    if service is None or not service.env_prefix:
        raise NotConfirmedError("alembic.ini has no env_prefix, so the configured database is unknown.")
    folder = member.folder / FOLDER
    urls = dict(_configured(service))
    for variable, url in urls.items():
        _refuse_elsewhere(variable, url)
    if not os.path.lexists(folder / "password") and (compose := find_compose_database(member, urls)) is not None:
        return _of_compose(member, compose, next(iter(urls.values())))
    _refuse_foreign_folder(folder)
    _refuse_other_server(folder, urls)
    port, data = service.port_of_environment(), folder / "data"
    running_port = _running_port(data)
    if running_port != port:
        _refuse_taken_port(port)
    if not data.is_dir():
        return DevelopmentDatabase(member, port, (), folder)
    _refuse_copied_data(folder)
    contents = [f"{data}, {_size(data)}"]
    if running_port is not None:
        password = folder.joinpath("password").read_text()
        url = URL.create("postgresql", USER, password, HOST, running_port, "postgres")
        contents += asyncio.run(_read_server(url, data))
    return DevelopmentDatabase(member, port, tuple(contents), folder, is_running=running_port is not None)


def _configured(service: Service) -> Iterator[tuple[str, URL]]:
    """The URLs that the environment and `.env` configure, by their variables."""
    for name in ("DATABASE_URL", "MIGRATION_DATABASE_URL"):
        variable = service.variable(name)
        if text := service.variables.get(variable):
            url = parse_database_url(text, variable)
            yield variable, url.set(database=url.database or service.name_of_environment())
        elif name == "DATABASE_URL" and _has_login(service):
            yield service.variable("DB_HOST"), application_database(service).url
        elif name == "DATABASE_URL":
            host = service.variables.get(service.variable("DB_HOST"))
            url = URL.create("postgresql", None, None, host, None, service.name_of_environment())
            yield service.variable("DB_HOST"), url


def _has_login(service: Service) -> bool:
    return all(service.variables.get(f"{service.platform_prefix}_DB_{part}") for part in ("USER", "PASSWORD"))


def _refuse_elsewhere(variable: str, url: URL) -> None:
    if {"host", "port"} & url.query.keys():
        raise NotConfirmedError(
            f"{variable} names a host or port in the parameters of its URL, which may be elsewhere."
        )
    if url.host not in _LOOPBACK:
        raise NotConfirmedError(f"{variable} names another host, {printable(url.host or '')}.")
    _refuse_production(f"{variable} has", *filter(None, [url.database, url.username]))


def _refuse_production(where: str, *names: str) -> None:
    for name in names:
        if _PRODUCTION.search(name):
            raise NotConfirmedError(f"{where} the name {printable(name)}, as a production database might.")


def _refuse_foreign_folder(folder: Path) -> None:
    """Stop unless `db-up` of this user has made the cluster."""
    for path in (folder, folder / "data", folder / "data" / "pg_wal", *_entries(folder / "data" / "pg_tblspc")):
        if path.is_symlink():
            raise NotConfirmedError(f"{path} is a symbolic link, which leads to another folder.")
    if not folder.exists():
        return
    if folder.stat().st_uid not in _own_users():
        raise NotConfirmedError(f"{folder} belongs to another user ({_owner(folder)}).")
    if not folder.joinpath("data").is_dir():
        return
    if not folder.joinpath("password").is_file():
        raise NotConfirmedError(f"{folder} has no file `password`, so db-up has not created this folder.")
    if signals := [name for name in ("standby.signal", "recovery.signal") if folder.joinpath("data", name).exists()]:
        raise NotConfirmedError(f"{folder / 'data'} has the file {signals[0]}: the data is a copy of another server.")


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _own_users() -> set[int]:
    """This user; for root also the user as whom root's clusters run."""
    if not hasattr(os, "geteuid"):
        return {0}  # Windows, where every file is of user 0
    if os.geteuid() != 0:
        return {os.geteuid()}
    import pwd  # Windows has no such module

    return {0, pwd.getpwnam("nobody").pw_uid}


def _owner(folder: Path) -> str:
    try:
        return folder.owner()
    except KeyError:
        return str(folder.stat().st_uid)


def _refuse_copied_data(folder: Path) -> None:
    """Stop if the cluster was created before db-up wrote its password: the data came from another server.

    The file pg_control begins with the system identifier, whose upper half is the time of initdb.
    """
    control = folder / "data" / "global" / "pg_control"
    if not control.exists():  # its creation was interrupted
        return
    with control.open("rb") as file:
        created = int.from_bytes(file.read(8), sys.byteorder) >> 32
    if created < folder.joinpath("password").stat().st_mtime - _CLOCK:
        raise NotConfirmedError(
            f"{folder / 'data'} is older than {folder / 'password'}: db-up has not created the data."
        )


def _refuse_other_server(folder: Path, urls: dict[str, URL]) -> None:
    """Stop if a URL has another login than the cluster: the URL is of another server on this machine."""
    password_file = folder / "password"
    password = password_file.read_text() if password_file.is_file() else None
    for variable, url in urls.items():
        # Where there is no cluster yet, or no login, db-up writes a URL of the cluster into .env.
        is_replaced = not variable.endswith("_URL") and (password is None or url.username is None)
        if not is_replaced and (url.username, url.password) != (USER, password):
            raise NotConfirmedError(
                f"{variable} names {printable(url.set(drivername='postgresql').render_as_string())}, not the embedded "
                f"cluster in {folder}."
            )


def _running_port(data: Path) -> int | None:
    """The port of the cluster's server; None if the server does not run.

    Raises:
        NotConfirmedError: the file of the server's process id names the server of another cluster.
    """
    file = data / "postmaster.pid"
    try:
        lines = file.read_text().splitlines()
        pid, folder, port = int(lines[0]), Path(lines[1]), int(lines[3])
    except FileNotFoundError:
        return None
    except (IndexError, ValueError):
        raise NotConfirmedError(f"{file} can't be read.") from None
    # Also if no such process is here: a container, whose processes are not this machine's, may use the folder.
    if folder.resolve() != data.resolve():
        raise NotConfirmedError(f"{file} names the server of another cluster, {printable(str(folder))}.")
    return port if _is_alive(pid) else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True


def _refuse_taken_port(port: int) -> None:
    try:
        free_port(port)
    except EmbeddedPostgresError as error:
        raise NotConfirmedError(str(error)) from None


async def _read_server(url: URL, data: Path | None) -> list[str]:
    """The databases of a server, after the checks that it is the one which is meant, and that nobody else uses it."""
    try:
        connection = await _connect(url)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise NotConfirmedError(
            f"The server at {url.host}:{url.port} does not accept the login of this development database "
            f"({printable(str(error)) or type(error).__name__})."
        ) from None
    try:
        if data is not None and Path(await connection.fetchval("SHOW data_directory")).resolve() != data.resolve():
            raise NotConfirmedError(f"The server at {url.host}:{url.port} belongs to another cluster than {data}.")
        if sessions := [row[0] for row in await connection.fetch(_SESSIONS)]:
            raise NotConfirmedError(
                f"Other programs are connected: {printable(', '.join(sessions))}. End these programs first."
            )
        databases = await connection.fetch(_DATABASES)
    finally:
        await connection.close()
    _refuse_production("The server has a database of", *(row["name"] for row in databases))
    return [
        f"database {printable(row['name'])}, {row['size']}, about {await _rows(url, row['name']):,} rows"
        for row in databases
    ]


async def _rows(url: URL, name: str) -> int:
    connection = await _connect(url.set(database=name))
    try:
        return int(await connection.fetchval(_ROWS))
    finally:
        await connection.close()


async def _connect(url: URL) -> Any:
    arguments = {"host": url.host, "port": url.port, "user": url.username, "password": url.password}
    return await asyncpg.connect(
        **arguments,
        database=url.database,
        timeout=TIMEOUT,
        command_timeout=TIMEOUT,
        server_settings={"application_name": "safe-migrations"},  # the last one may not have ended yet
    )


def _of_compose(member: Member, compose: ComposeDatabase, url: URL) -> DevelopmentDatabase:
    url = url.set(host=url.host or HOST)
    databases: list[str] = []
    if compose.is_running:
        databases = asyncio.run(_read_server(url, None))
    elif _is_taken(url.port or compose.port):
        raise NotConfirmedError(f"Port {url.port} is in use, and not by {compose.service} of {compose.file}.")
    contents = (*(f"volume {volume}" for volume in compose.volumes), *databases)
    return DevelopmentDatabase(member, compose.port, contents, member.folder / FOLDER, compose=compose)


def _is_taken(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex((HOST, port)) == 0


def _size(folder: Path) -> str:
    """The size of a folder's files."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a running server removes files
            size += path.lstat().st_size
    return f"{size / 2**20:.0f} MiB"
