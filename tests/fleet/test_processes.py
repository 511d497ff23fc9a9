"""Commands in many services, in real processes."""

import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from safe_migrations.fleet.processes import Jobs, Outcome, worst_status
from safe_migrations.fleet.services import Member, find_services
from support import bare_environment

OURS = "[alembic]\nscript_location = %(here)s/alembic\n[safe_migrations]\nservice = orders\n"
# In place of the service's Python, so that the test does not depend on what a command of the library does.
PROGRAM = "#!/bin/sh\necho $VIRTUAL_ENV $PWD $5 $ALEMBIC_CONFIG\n{script}\n"


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    for name, script in (("a", "exit 0"), ("b", "echo failed >&2; exit 13"), ("c", "kill -KILL $$"), ("d", "exit 0")):
        program = tmp_path / name / ".venv" / "bin" / "python"
        program.parent.mkdir(parents=True)
        program.write_text(PROGRAM.format(script=script))
        program.chmod(0o755)
        tmp_path.joinpath(name, "alembic.ini").write_text(OURS)
    tmp_path.joinpath("d", "alembic.ini").write_text("[safe_migrations]\ncolour = red\n")
    return tmp_path


def wait_in_each(members: list[Member], jobs: Jobs) -> list[Outcome]:
    return jobs.in_each(members, lambda member: jobs.run_module(member, "safe_migrations", "wait"))


def test_a_failure_does_not_stop_the_rest(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALEMBIC_CONFIG", "of/another/project.ini")
    shutil.copytree(fleet / "a", fleet / "e")
    fleet.joinpath("e", ".venv", "bin", "python").unlink()
    a, b, c, d, e = outcomes = wait_in_each(find_services(fleet), Jobs(2))
    assert [outcome.exit_status for outcome in outcomes] == [0, 13, 137, 11, 127]
    assert f"{fleet}/e/.venv/bin/python" in e.output
    assert a.output == f"{fleet}/a/.venv {fleet}/a alembic.ini"
    assert b.output.endswith("\nfailed")
    assert "colour" in d.output
    assert c.seconds > 0


def test_stop_at_first(fleet: Path) -> None:
    outcomes = wait_in_each(find_services(fleet, exclude=["d"]), Jobs(1, stop_at_first=True))
    assert [outcome.exit_status for outcome in outcomes] == [0, 13, None]


def test_worst_status() -> None:
    assert worst_status([]) == worst_status([0, 0]) == 0
    assert worst_status([0, None]) == 1
    assert worst_status([0, 13, None, 11]) == 13


@pytest.mark.parametrize(
    ("trap", "interrupts", "expected"),
    [
        ("touch stopped; exit 130", 1, "True 130 None\n"),  # the second service is not started
        ("touch stopped", 2, ""),  # it goes on
    ],
)
def test_an_interrupt_reaches_the_commands_and_waits_for_them(
    fleet: Path, trap: str, interrupts: int, expected: str
) -> None:
    script = f'trap "{trap}" INT\necho $$ >started\nwhile true; do sleep 0.1; done'
    fleet.joinpath("a", ".venv", "bin", "python").write_text(PROGRAM.format(script=script))
    code = (
        "from pathlib import Path\nfrom safe_migrations.fleet import processes, services\n"
        "jobs = processes.Jobs(1)\n"
        "members = services.find_services(Path.cwd(), exclude=['c', 'd'])\n"
        "outcomes = jobs.in_each(members, lambda member: jobs.run_module(member, 'safe_migrations', 'wait'))\n"
        "print(jobs.interrupted, *(outcome.exit_status for outcome in outcomes))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=fleet, env=bare_environment(), stdout=subprocess.PIPE, text=True
    )
    for name in ["started", *["stopped"] * (interrupts - 1)]:
        while not fleet.joinpath("a", name).exists() or not fleet.joinpath("a", "started").read_text():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert fleet.joinpath("a", "stopped").exists()
    assert output == expected
    until = time.monotonic() + 20
    while running_in(fleet.joinpath("a", "started").read_text().strip()):
        assert time.monotonic() < until
        time.sleep(0.02)


def running_in(group: str) -> list[str]:
    """The processes of a group, without those that have ended and that nobody has waited for."""
    running = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            state, _, of_group, *_ = file.read_text().rpartition(")")[2].split()
            running += [file.parent.name] if of_group == group and state != "Z" else []
    return running
