"""A command of `safe-migrations` in each service: in a process of its own, with the service's own environment."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safe_migrations.env_files import environment_of_programs
from safe_migrations.fleet.services import Member

_OF_ANOTHER_PROJECT = ("PDM_PROJECT_ROOT", "PDM_RUN_CWD", "PYTHONHOME")  # with which pdm would leave the folder


@dataclass(frozen=True)
class Outcome:
    """How a command ended in one service.

    Attributes:
        member: the service.
        exit_status: of the command; None if the command was not started.
        output: of the command, both streams in their order.
        seconds: how long the command ran.
    """

    member: Member
    exit_status: int | None
    output: str = ""
    seconds: float = 0.0


def run_in_each(
    members: Sequence[Member],
    command: Sequence[str],
    *,
    jobs: int,
    stop_at_first: bool = False,
    ended: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Run a command in each service; one service's failure does not stop another's.

    An interrupt is passed on to the running commands, and waits for them.

    Args:
        members: the services.
        command: of `safe-migrations`, with its arguments.
        jobs: number of commands to run at the same time.
        stop_at_first: start no further command after the first failure.
        ended: called with each outcome at once.

    Returns:
        The outcomes, in the order of the services.
    """
    return asyncio.run(_run_all(members, command, jobs, stop_at_first, ended))


def worst_status(statuses: Sequence[int | None]) -> int:
    """The exit status for many: the highest, or 1 if something was not started and nothing failed."""
    return max((1 if status is None else status for status in statuses), default=0)


async def _run_all(
    members: Sequence[Member],
    command: Sequence[str],
    jobs: int,
    stop_at_first: bool,
    ended: Callable[[Outcome], None],
) -> list[Outcome]:
    free = asyncio.Semaphore(jobs)
    outcomes: list[Outcome] = []

    async def run(member: Member) -> Outcome:
        async with free:
            if stop_at_first and any(outcome.exit_status for outcome in outcomes):
                return Outcome(member, None)
            outcome = await _run(member, command)
        outcomes.append(outcome)
        ended(outcome)
        return outcome

    return await asyncio.gather(*map(run, members))


async def _run(member: Member, command: Sequence[str]) -> Outcome:
    if member.problem:
        return Outcome(member, member.problem.exit_status, str(member.problem))
    begin = time.monotonic()
    python, environment = _environment(member)
    config = [] if member.config_file.name == "pyproject.toml" else ["-c", member.config_file.name]
    process = await asyncio.create_subprocess_exec(
        *(python, "-m", "safe_migrations", *config, *command),
        cwd=member.folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # or Ctrl-C would reach the command twice
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        await process.communicate()
        raise
    status = process.returncode or 0
    return Outcome(
        member,
        status if status >= 0 else 128 - status,  # as the shell has it for a signal
        output.decode(errors="replace").strip(),
        time.monotonic() - begin,
    )


def _environment(member: Member) -> tuple[str, dict[str, str]]:
    """The Python of the nearest virtual environment in the fleet, or this one; and the variables for its programs."""
    variables = {name: value for name, value in environment_of_programs().items() if name not in _OF_ANOTHER_PROJECT}
    depth = len(Path(member.path).parts)
    for folder in (member.folder, *member.folder.parents[:depth]):
        programs = folder / ".venv" / ("Scripts" if os.name == "nt" else "bin")
        if programs.is_dir():
            path = os.pathsep.join(filter(None, [str(programs), variables.get("PATH")]))
            return str(programs / "python"), {**variables, "VIRTUAL_ENV": str(programs.parent), "PATH": path}
    return sys.executable, variables
