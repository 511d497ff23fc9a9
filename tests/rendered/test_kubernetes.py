"""The Kubernetes manifests: valid in each supported release, and their commands do what the rollout needs."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from sqlalchemy import URL

from safe_migrations import probe
from safe_migrations.errors import ConnectionFailedError, LockedError
from support import Render, Service, as_text, fetch

# https://kubernetes.io/releases: supported in November 2026.
RELEASES = ("1.35", "1.36", "1.37")
JOBS = {"migrate.yaml": ("pre-install,pre-upgrade", "PreSync"), "contract.yaml": ("post-upgrade", "PostSync")}
FILES = (*JOBS, "deployment.yaml")

# As a container runs: all mounts are read-only, and the user is not root. The capability reaches private folders.
READ_ONLY = 'findmnt --raw --noheadings --output TARGET | xargs -n 1 mount -o remount,bind,ro 2>/dev/null; exec "$@"'
UNSHARE = ["unshare", "--mount", "--propagation=private", "sh", "-c", READ_ONLY, "sh"]
BECOME = ["--reuid=10001", "--regid=10001", "--clear-groups"]
REACH = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup"]


def manifest(service: Service, file: str) -> Any:
    return yaml.safe_load((service.folder / "kubernetes" / file).read_text())


def containers(service: Service, file: str) -> list[Any]:
    """The init containers, then the containers."""
    pod = manifest(service, file)["spec"]["template"]["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


@cache
def isolation() -> list[str]:
    """What runs a command as a container does, as far as this machine lets it."""
    if os.geteuid() != 0:
        return []
    unshared = subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0
    return [*(UNSHARE if unshared else []), "setpriv", *BECOME, *REACH]


def start(service: Service, container: Any, url: URL, command: list[str] | None = None) -> subprocess.Popen[str]:
    """Start a container of a manifest."""
    secrets = {"url": as_text(url), "migration-url": None}
    environment = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "LANG": "C.UTF-8"}
    for variable in container["env"]:
        reference = variable.get("valueFrom", {}).get("secretKeyRef", {})
        value = secrets[reference["key"]] if reference else variable["value"]
        if value is None:
            assert reference["optional"] is True
        else:
            environment[variable["name"]] = value
    return subprocess.Popen(
        [*isolation(), *(command or container["command"])],
        cwd=service.folder,
        env=environment | {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, list[Any]]:
    """The exit status of a container, and its log, of which each line is a JSON object."""
    output, _ = process.communicate(timeout=60)
    lines = [json.loads(line) for line in output.splitlines()]
    assert all(line.keys() >= {"time", "level", "logger", "message"} for line in lines)
    return process.returncode, lines


@pytest.fixture
def behind(at_head: Service) -> Service:
    """A service with an expand and a contract revision that its database lacks."""
    at_head.add_revision("add_a_size", "op.execute('SELECT 1')", declarations='phase = "expand"')
    at_head.add_revision("drop_a_price", "op.execute('SELECT 1')", declarations='phase = "contract"')
    return at_head


def current(database: URL) -> str:
    ((revision,),) = fetch(database, "SELECT version_num FROM alembic_version")
    return str(revision)


@pytest.mark.parametrize(
    "answers",
    [
        {"service_name": "a_service_with_as_long_a_name_as_allowed", "layout": "monorepo"},
        {"service_name": "on", "env_prefix": "Y"},
    ],
)
def test_valid_in_each_supported_release(render: Render, answers: dict[str, str]) -> None:
    service = render(**answers)
    assert sorted(path.name for path in (service.folder / "kubernetes").iterdir()) == sorted(FILES)
    for file in FILES:
        document = manifest(service, file)
        assert {kubernetes_validate.validate(document, release, strict=True) for release in RELEASES} == set(RELEASES)
        names = [document["metadata"]["name"], *(container["name"] for container in containers(service, file))]
        assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) for name in names)


def test_what_the_schemas_do_not_check(service: Service) -> None:
    for file in FILES:
        document = manifest(service, file)
        pod = document["spec"]["template"]["spec"]
        assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        assert pod["automountServiceAccountToken"] is pod["enableServiceLinks"] is False
        for container in containers(service, file):
            assert container["image"] == "orders"
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            plain = {variable["name"] for variable in container.get("env", []) if "valueFrom" not in variable}
            assert plain <= {"MIGRATION_LOG_FORMAT"}, "no secret is in the file"
    for file, hooks in JOBS.items():
        document = manifest(service, file)
        assert tuple(document["metadata"]["annotations"].values()) == hooks
        assert document["spec"]["template"]["spec"]["restartPolicy"] == "Never", "podFailurePolicy needs that"
        *_, rule = document["spec"]["podFailurePolicy"]["rules"]
        retried = [ConnectionFailedError.exit_status, LockedError.exit_status]
        assert rule == {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": retried}}
    deployment = manifest(service, "deployment.yaml")["spec"]
    selected = deployment["selector"]["matchLabels"].items()
    pods = {file: manifest(service, file)["spec"]["template"]["metadata"]["labels"].items() for file in FILES}
    assert [file for file, labels in pods.items() if selected <= labels] == ["deployment.yaml"], "not the Jobs' pods"
    (application,) = deployment["template"]["spec"]["containers"]
    assert "command" not in application, "the image's"
    for name in ("startupProbe", "readinessProbe"):
        assert application[name]["timeoutSeconds"] > probe.TIMEOUT


def test_a_rollout(behind: Service, database: URL) -> None:
    """The application waits for the first Job, is ready beside contract revisions, and stays ready."""
    old = Service(behind.folder.with_name("old"), "ORDERS")
    shutil.copytree(behind.folder, old.folder)
    expand, contract = sorted(behind.versions.glob("20300101*"))
    for file in (expand, contract):
        old.versions.joinpath(file.name).unlink()
    before = {path: path.stat().st_mtime_ns for path in behind.folder.rglob("*")}
    waiting, application = containers(behind, "deployment.yaml")
    assert application["startupProbe"]["exec"] == application["readinessProbe"]["exec"]
    is_ready = application["readinessProbe"]["exec"]["command"]

    initializing = start(behind, waiting, database)
    assert initializing.stdout is not None
    assert "2 pending" in json.loads(initializing.stdout.readline())["message"]
    (migrate,) = containers(behind, "migrate.yaml")
    status, lines = end(start(behind, migrate, database))
    assert (status, current(database)) == (0, "0002_add_a_size"), lines
    (applied,) = [line for line in lines if line["message"].startswith("Applied")]
    assert (applied["revision"], applied["phase"]) == ("0002_add_a_size", "expand")
    assert end(initializing)[0] == 0

    for service in (behind, old):
        assert end(start(service, application, database, is_ready))[0] == 0
    ending, *contracting = containers(behind, "contract.yaml")
    assert ending["command"][0] == "sleep", "until no replica of the previous release is left"
    for container in contracting:
        status, lines = end(start(behind, container, database))
        assert status == 0, lines
    assert current(database) == "0003_drop_a_price"
    assert end(start(old, application, database, is_ready))[0] == 0
    assert {path: path.stat().st_mtime_ns for path in behind.folder.rglob("*")} == before, "nothing was written"


@pytest.fixture
def sleeping(behind: Service) -> Iterator[Service]:
    """The same service, whose expand revision takes minutes."""
    (file,) = behind.versions.glob("*_add_a_size.py")
    text = file.read_text()
    file.write_text(text.replace("SELECT 1", "CREATE TABLE size (); SELECT pg_sleep(300)"))
    yield behind
    file.write_text(text)


def test_a_migration_that_is_stopped_ends_in_time_and_is_rolled_back(sleeping: Service, database: URL) -> None:
    grace = manifest(sleeping, "migrate.yaml")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    (migrate,) = containers(sleeping, "migrate.yaml")
    before = current(database)
    process = start(sleeping, migrate, database)
    asleep = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    until = time.monotonic() + 30
    while not fetch(database, asleep) and time.monotonic() < until:
        time.sleep(0.05)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    status, lines = end(process)
    assert time.monotonic() - begun < grace / 2
    assert (status, lines[-1]["exit_status"], current(database)) == (130, 130, before), lines
    assert not fetch(database, asleep)
    assert not fetch(database, "SELECT 1 FROM pg_tables WHERE tablename = 'size'")
