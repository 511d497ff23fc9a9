"""`safe-migrations wait`: when the database is ready for this code, and what is said until then."""

import os
import signal
from pathlib import Path

import pytest
from sqlalchemy import URL

from safe_migrations import probe
from safe_migrations.errors import ConfigurationError, ConnectionFailedError, RefusedError
from safe_migrations.postgres.connection import run_async
from safe_migrations.postgres.creation import create_database
from safe_migrations.revisions import BEHIND, EXIT_STATUS, FRESH, SEVERAL_HEADS, compare, read_revisions
from safe_migrations.service import Service as OfAlembicIni
from support import Service, as_text, at, fetch

WAIT = ("safe-migrations", "wait")
RESOLVING = """
import socket, sys, time
from safe_migrations.cli import main

def resolve(*_, **__):
    print("resolving", flush=True)
    time.sleep(60)

socket.getaddrinfo = resolve
sys.argv = ["safe-migrations", "wait"]
main()
"""


@pytest.mark.parametrize(
    ("current", "later", "ready"),
    [
        ("b", [], True),
        ("a", [], False),
        ("", [], False),
        ("of_a_newer_release", [], True),
        ("b", ["contract"], True),
        ("b", ["contract", "contract"], True),
        ("b", ["contract", "expand"], False),
        ("b", ["expand", "contract"], False),
        ("b", [None], False),
        ("b", ["contraction"], False),
        ("a", ["contract"], False),
        ("", ["contract"], False),
    ],
)
def test_ready_at_head_or_newer_or_before_contract_revisions(
    tmp_path: Path, current: str, later: list[str | None], ready: bool
) -> None:
    write_history(tmp_path, "expand", *later)
    comparison = compare([current] if current else [], read_revisions([tmp_path]))
    assert comparison.is_ready is ready
    assert "\n" not in comparison.sentence


def test_contract_revisions_of_another_branch_and_what_they_depend_on(tmp_path: Path) -> None:
    write_history(tmp_path, "expand")
    branch = "revision = 'x'\ndown_revision = None\nbranch_labels = 'reports'\nphase = 'contract'\n"
    (tmp_path / "x.py").write_text(branch)
    assert compare(["b"], read_revisions([tmp_path])).is_ready
    (tmp_path / "y.py").write_text("revision = 'y'\ndown_revision = 'b'\n")
    (tmp_path / "x.py").write_text(f"{branch}depends_on = 'y'\n")
    assert not compare(["b"], read_revisions([tmp_path])).is_ready, "y is pending, and not a contract revision"


def write_history(folder: Path, *phases: str | None) -> None:
    """Write revisions a, b, c, …, of which all but the first declare these phases."""
    for number, phase in enumerate([None, *phases]):
        lines = [f"revision = {chr(97 + number)!r}", f"down_revision = {chr(96 + number) if number else None!r}"]
        (folder / f"{number}.py").write_text("\n".join([*lines, *([f"phase = {phase!r}"] if phase else [])]) + "\n")


def test_says_what_it_waits_for_until_the_database_is_ready(service: Service, database: URL) -> None:
    """The server refuses connections, the database is missing, and is behind by two, by one, by none."""
    revision = service.add_revision("add_a_size", "pass")
    baseline = fetch_baseline(service)
    missing = database.set(database=f"{database.database}_later")
    service.configure(missing)
    process = service.start(*WAIT, "--timeout", "60s")
    assert process.stderr is not None
    try:
        assert "does not exist" in process.stderr.readline()
        run_async(create_database(at(database), str(missing.database)))
        assert "no revision" in process.stderr.readline()
        fetch(missing, "CREATE TABLE alembic_version (version_num text)")
        fetch(missing, "INSERT INTO alembic_version VALUES (:revision)", revision=baseline)
        line = process.stderr.readline()
        assert all(part in line for part in ("0001 baseline", "add_a_size.py", "1 pending")), line
        fetch(missing, "UPDATE alembic_version SET version_num = :revision", revision=revision)
        output, rest = process.communicate(timeout=30)
        assert (process.returncode, "at head" in output, rest) == (0, True, "")
    finally:
        fetch(database, f"DROP DATABASE IF EXISTS {missing.database} WITH (FORCE)")


def test_says_the_same_again_only_from_time_to_time(
    service: Service, database: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERS_DATABASE_URL", as_text(database))
    monkeypatch.setattr(probe, "POLL", 0.01)
    reports: dict[float, list[str]] = {60.0: [], 0.0: []}
    for seconds, lines in reports.items():
        monkeypatch.setattr(probe, "REPORT", seconds)
        with pytest.raises(RefusedError, match="no revision"):
            probe.wait(OfAlembicIni.read(service.folder / "alembic.ini"), 0.5, lines.append)
    assert len(reports[60.0]) == 1 < len(reports[0.0])


def fetch_baseline(service: Service) -> str:
    """The revision of the baseline."""
    return (service.versions / "HEAD").read_text().strip()


def test_ends_with_the_status_of_what_it_last_saw(service: Service, database: URL) -> None:
    for url, timeout, status, part in (
        (database, "0", EXIT_STATUS[FRESH], "no revision"),
        (database, "0.1", EXIT_STATUS[FRESH], "0.1 s"),
        (database.set(port=1), "0", ConnectionFailedError.exit_status, "127.0.0.1:1"),
        (database.set(password="sec%ret"), "0.1", ConnectionFailedError.exit_status, "password authentication failed"),
        (database.set(drivername="mysql"), "60", ConfigurationError.exit_status, "ORDERS_DATABASE_URL"),
    ):
        service.configure(url)
        service.environment["ORDERS_DATABASE_URL"] = url.render_as_string(hide_password=False)
        process = service.run(*WAIT, "--timeout", timeout)
        assert (process.returncode, process.stdout) == (status, ""), process
        assert part in process.stderr.splitlines()[-1]
        assert len(process.stderr.splitlines()) == 1 or "0.1 s" in process.stderr, "a setting does not change"
        assert "sec" not in process.stderr.replace("seconds", "")
    assert service.run(*WAIT, "--timeout", "-1").returncode == service.run(*WAIT, "--timeout", "nan").returncode == 2

    service.configure(database)
    for name in ("next", "other"):
        text = f'revision = "{name}"\ndown_revision = "{fetch_baseline(service)}"\n'
        service.versions.joinpath(f"20990101_0002_{name}.py").write_text(text)
    process = service.run(*WAIT)
    assert process.returncode == EXIT_STATUS[SEVERAL_HEADS]
    assert len(process.stderr.splitlines()) == 1, "this code never becomes ready, so wait does not wait"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_at_once_by_a_signal(service: Service, database: URL, number: int) -> None:
    """Also while a thread resolves the name of the server."""
    service.configure(database.set(host="localhost"))
    process = service.start("python", "-c", RESOLVING)
    assert process.stdout is not None
    assert process.stdout.readline() == "resolving\n"
    os.kill(process.pid, number)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in error) == (130, False)


def test_readiness_of_an_application_and_wait_agree_before_contract_revisions(at_head: Service) -> None:
    at_head.add_revision("drop_a_price", "pass", declarations='phase = "contract"')
    at_head.succeed("python", "-m", "database")
    assert "deploy --contract" in at_head.succeed(*WAIT, "--timeout", "0")
    assert at_head.run("safe-migrations", "state", "--quick").returncode == EXIT_STATUS[BEHIND]
