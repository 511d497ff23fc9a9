"""A development database of a compose project: the command lines of `docker`, by a program in its place."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safe_migrations.errors import NotConfirmedError
from safe_migrations.fleet import reset
from safe_migrations.fleet.development import examine
from safe_migrations.fleet.processes import Jobs
from safe_migrations.fleet.services import Member, find_services
from small_service import make_service

PORT = 15999
PROJECT: dict[str, Any] = {
    "name": "orders",
    "services": {
        "app": {"volumes": [{"type": "volume", "source": "uploads"}]},
        "postgres": {
            "environment": {"POSTGRES_DB": "orders", "POSTGRES_USER": "dev", "POSTGRES_PASSWORD": "secret"},
            "ports": [{"host_ip": "127.0.0.1", "target": 5432, "published": str(PORT)}],
            "volumes": [{"type": "volume", "source": "postgres", "target": "/var/lib/postgresql"}],
        },
    },
    "volumes": {"postgres": {"name": "orders_postgres"}, "uploads": {"name": "orders_uploads"}},
}
DOCKER = """#!/bin/sh
echo "$*" >> {folder}/called
case "$*" in
    "context inspect "*) cat {folder}/host ;;
    *" config --format json") cat {folder}/project.json ;;
esac
"""


@pytest.fixture
def project() -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(PROJECT))
    return copy


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "docker"
    folder.mkdir()
    folder.joinpath("docker").write_text(DOCKER.format(folder=folder))
    folder.joinpath("docker").chmod(0o755)
    folder.joinpath("host").write_text("unix:///var/run/docker.sock\n")
    folder.joinpath("project.json").write_text(json.dumps(PROJECT))
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


@pytest.fixture
def member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Member:
    root = tmp_path / "fleet"
    folder = make_service(root / "services" / "orders", PORT)
    folder.joinpath("compose.yaml").touch()
    root.joinpath(".env").touch()
    monkeypatch.setenv("ORDERS_DB_USER", "dev")
    monkeypatch.setenv("ORDERS_DB_PASSWORD", "secret")
    (member,) = find_services(root)
    return member


def test_the_commands(member: Member, docker: Path) -> None:
    database = examine(member)
    assert database.contents == ("volume orders_postgres",)
    docker.joinpath("called").unlink()
    steps = reset._steps(database, Jobs(1))[:-2]  # the last two are for a real database
    for step in steps:
        assert asyncio.run(step()).exit_status == 0  # type: ignore[arg-type]
    compose = f"compose --env-file={member.folder.parents[1]}/.env"
    assert docker.joinpath("called").read_text().splitlines() == [
        f"{compose} rm --stop --force --volumes postgres",
        "volume rm --force orders_postgres",
        f"{compose} up --detach --wait postgres",
    ]


def _bind(service: dict[str, Any]) -> None:
    service["volumes"] = [{"type": "bind", "source": "/srv/postgres"}]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda project: project["services"]["postgres"]["environment"].update(POSTGRES_PASSWORD="x"),
            "different logins",
        ),
        (lambda project: project["services"]["postgres"]["environment"].update(POSTGRES_DB="x"), "different logins"),
        (lambda project: project["services"]["postgres"]["ports"][0].update(published="5999"), str(PORT)),
        (lambda project: project["volumes"]["postgres"].update(external=True), "may have other users"),
        (lambda project: project["services"]["app"]["volumes"][0].update(source="postgres"), "may have other users"),
        (lambda project: _bind(project["services"]["postgres"]), "/srv/postgres"),
    ],
)
def test_a_project_that_is_not_certainly_meant(
    member: Member, docker: Path, project: dict[str, Any], change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    change(project)
    docker.joinpath("project.json").write_text(json.dumps(project))
    with pytest.raises(NotConfirmedError, match=reason) as refusal:
        examine(member)
    assert "secret" not in str(refusal.value)


def test_two_services_with_one_volume(
    member: Member, docker: Path, project: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compose projects of equal names have the same volumes, also on other ports."""
    folder = make_service(member.folder.with_name("copy"), PORT + 1)
    folder.joinpath("compose.yaml").touch()
    folder.joinpath("alembic.ini").write_text(folder.joinpath("alembic.ini").read_text().replace("COPY", "ORDERS_2"))
    monkeypatch.setenv("ORDERS_2_DATABASE_URL", f"postgresql://dev:secret@localhost:{PORT + 1}/orders")
    project["services"]["postgres"]["ports"].append({"target": 5432, "published": str(PORT + 1)})
    docker.joinpath("project.json").write_text(json.dumps(project))
    with pytest.raises(NotConfirmedError, match=r"services/copy, services/orders: .* volume orders_postgres"):
        reset.run(find_services(member.folder.parents[1]), Jobs(1), yes=True)
    assert "volume rm" not in docker.joinpath("called").read_text()


def test_docker_on_another_host(member: Member, docker: Path) -> None:
    docker.joinpath("host").write_text("ssh://production\n")
    with pytest.raises(NotConfirmedError, match="production"):
        examine(member)


@pytest.mark.parametrize("docker_is_here", [False, True])
def test_without_compose_the_database_is_an_embedded_one(
    member: Member, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, docker_is_here: bool
) -> None:
    folder = tmp_path / "programs"
    folder.mkdir()
    if docker_is_here:
        folder.joinpath("docker").write_text("#!/bin/sh\nexit 125\n")
        folder.joinpath("docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    assert examine(member).compose is None
