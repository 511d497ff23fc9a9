"""A development database that a compose project of Docker runs, as the template's compose.yaml describes one."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from safe_migrations.errors import NotConfirmedError
from safe_migrations.fleet.processes import environment_of
from safe_migrations.fleet.services import Member

_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")  # in the order of Docker
_POSTGRES_PORT = 5432
_LOCAL = ("unix://", "npipe://")


@dataclass(frozen=True)
class ComposeDatabase:
    """PostgreSQL of a compose project.

    Attributes:
        file: of the project.
        service: the project's service that runs PostgreSQL.
        port: on this machine.
        volumes: the names of the volumes with the data.
        is_running: whether its container runs.
        command: `docker compose` with its options.
    """

    file: Path
    service: str
    port: int
    volumes: tuple[str, ...]
    is_running: bool
    command: tuple[str, ...]

    @property
    def deletion(self) -> list[list[str]]:
        """The commands that stop the server, and delete its container and its data."""
        volumes = [["docker", "volume", "rm", "--force", *self.volumes]] if self.volumes else []
        return [[*self.command, "rm", "--stop", "--force", "--volumes", self.service], *volumes]

    @property
    def start(self) -> list[str]:
        """The command that starts the server, and waits until it is healthy."""
        return [*self.command, "up", "--detach", "--wait", self.service]


def find_compose_database(member: Member, urls: Mapping[str, URL]) -> ComposeDatabase | None:
    """Find the compose project's service to which a service's URLs lead; None if the service uses none.

    Raises:
        NotConfirmedError: the project is not certainly the one to which the URLs lead, or Docker is on another host.
    """
    file = next((member.folder / name for name in _FILES if member.folder.joinpath(name).is_file()), None)
    logins = {variable: url for variable, url in urls.items() if url.username is not None}
    if file is None or not logins or not _has_compose(member):
        return None
    _refuse_remote_docker(member)
    command = ("docker", "compose", *_env_files(member))
    project = json.loads(_output(member, *command, "config", "--format", "json"))
    port = next(iter(logins.values())).port or _POSTGRES_PORT
    name = next((name for name, service in project["services"].items() if _publishes(service, port)), None)
    if name is None:
        raise NotConfirmedError(f"No service of {file} publishes PostgreSQL's port as {port} of this machine.")
    for variable, url in logins.items():
        _refuse_other_login(f"{name} of {file}", project["services"][name], variable, url)
    volumes = tuple(_volumes(file, project, name))
    is_running = bool(_output(member, *command, "ps", "--quiet", "--status=running", name).strip())
    return ComposeDatabase(file, name, port, volumes, is_running, command)


def _has_compose(member: Member) -> bool:
    """Whether Docker is installed with its plug-in for compose projects."""
    return bool(shutil.which("docker")) and _docker(member, "docker", "compose", "version").returncode == 0


def _refuse_remote_docker(member: Member) -> None:
    host = _output(member, "docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}").strip()
    if not host.startswith(_LOCAL):
        raise NotConfirmedError(f"Docker runs on another host, {host}.")


def _env_files(member: Member) -> list[str]:
    """The options for the `.env` files of the fleet, the nearest last, because it wins."""
    return [f"--env-file={folder / '.env'}" for folder in reversed(member.folders) if folder.joinpath(".env").is_file()]


def _publishes(service: Mapping[str, Any], port: int) -> bool:
    return any(
        str(published.get("published")) == str(port) and published.get("target") == _POSTGRES_PORT
        for published in service.get("ports") or ()
    )


def _refuse_other_login(where: str, service: Mapping[str, Any], variable: str, url: URL) -> None:
    environment = service.get("environment") or {}
    user = environment.get("POSTGRES_USER") or "postgres"
    expected = (user, environment.get("POSTGRES_PASSWORD"), environment.get("POSTGRES_DB") or user)
    if (url.username, url.password, url.database) != expected:
        raise NotConfirmedError(f"{where} and {variable} name different logins or databases.")


def _volumes(file: Path, project: Mapping[str, Any], name: str) -> list[str]:
    """The volumes with the data; shared volumes and folders of this machine are refused."""
    names = []
    for volume in project["services"][name].get("volumes") or ():
        if volume.get("read_only") or volume["type"] == "tmpfs":
            continue
        if volume["type"] != "volume":
            raise NotConfirmedError(f"{name} of {file} writes into {volume.get('source')}, which is not a volume.")
        if not (source := volume.get("source")):  # anonymous: it goes with the container
            continue
        declared = project["volumes"][source]
        users = [other for other, service in project["services"].items() if _mounts(service, source)]
        if declared.get("external") or users != [name]:
            raise NotConfirmedError(f"The volume {source} of {file} may have other users than {name}.")
        names.append(declared["name"])
    return names


def _mounts(service: Mapping[str, Any], source: str) -> bool:
    return any(volume.get("source") == source for volume in service.get("volumes") or ())


def _output(member: Member, *command: str) -> str:
    process = _docker(member, *command)
    if process.returncode != 0:
        reason = (process.stderr.strip().splitlines() or ["without a message"])[-1]
        raise NotConfirmedError(f"`{command[0]} {command[1]}` failed ({reason}).")
    return process.stdout


def _docker(member: Member, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=member.folder,
        env=environment_of(member),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
