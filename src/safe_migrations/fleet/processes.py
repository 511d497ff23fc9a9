"""Work in each service: commands in processes of their own, with the service's own environment."""

import asyncio
import os
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from safe_migrations.env_files import environment_of_programs
from safe_migrations.fleet.services import PROGRAMS, Member

# Of the project that runs this command: with them, pdm and alembic would work on that project.
_OF_ANOTHER_PROJECT = ("ALEMBIC_CONFIG", "PDM_PROJECT_ROOT", "PYTHONHOME")
INTERRUPTED_STATUS = 130
_NOT_FOUND = 127  # as the shell has it for a program


@dataclass(frozen=True)
class Outcome:
    """How the work in one service ended.

    Attributes:
        member: the service.
        exit_status: of the command; None if the work was not started.
        output: of the command, both streams in their order.
        seconds: how long the work took.
        result: what became of the service, in a few words; empty where the status says all.
    """

    member: Member
    exit_status: int | None
    output: str = ""
    seconds: float = 0.0
    result: str = ""


class Jobs:
    """Work in many services, in some at the same time; the failure of one service does not stop another one.

    After an interrupt no more work starts. The interrupt is passed on to the running commands, and waits for them.

    Attributes:
        interrupted: whether there was an interrupt.
    """

    def __init__(self, number: int, *, stop_at_first: bool = False) -> None:
        self.interrupted = False
        self._failed = False
        self._stop_at_first = stop_at_first
        self._number = number
        self._running: set[asyncio.subprocess.Process] = set()

    def in_each(
        self,
        members: Sequence[Member],
        work: Callable[[Member], Awaitable[Outcome]],
        ended: Callable[[Outcome], None] = lambda outcome: None,
    ) -> list[Outcome]:
        """Work in each service.

        Returns:
            The outcomes, in the order of the services.
        """
        return asyncio.run(self._in_each(members, work, ended))

    async def _in_each(
        self,
        members: Sequence[Member],
        work: Callable[[Member], Awaitable[Outcome]],
        ended: Callable[[Outcome], None],
    ) -> list[Outcome]:
        free = asyncio.Semaphore(self._number)

        async def run(member: Member) -> Outcome:
            async with free:
                if self.interrupted or (self._stop_at_first and self._failed):
                    return Outcome(member, None)
                outcome = await _outcome(member, work)
            self._failed = self._failed or bool(outcome.exit_status)
            ended(outcome)
            return outcome

        tasks = [asyncio.create_task(run(member)) for member in members]
        if not tasks:
            return []
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            self.interrupted = True
            for process in self._running:
                _interrupt(process)
            await asyncio.wait(tasks)
        return [task.result() for task in tasks]

    def exit_status(self, outcomes: Sequence[Outcome]) -> int:
        """The exit status of this work: the worst, or that of an interrupt."""
        if self.interrupted:
            return INTERRUPTED_STATUS
        return worst_status([outcome.exit_status for outcome in outcomes])

    async def run_module(self, member: Member, module: str, *arguments: str) -> Outcome:
        """Run a command of `safe_migrations` or `alembic` in a service, by the service's own Python."""
        if member.problem:
            return Outcome(member, member.problem.exit_status, str(member.problem))
        config = [] if member.config_file.name == "pyproject.toml" else ["-c", member.config_file.name]
        # -P: a service's folder may have a package of the same name, which `alembic` does not import either.
        return await self.run(member, _python(member), "-P", "-m", module, *config, *arguments)

    async def run(self, member: Member, program: str, *arguments: str) -> Outcome:
        """Run a program in a service's folder, with the service's environment."""
        begin = time.monotonic()
        environment = environment_of(member)
        try:
            process = await asyncio.create_subprocess_exec(
                *(program, *arguments),
                cwd=member.folder,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # or Ctrl-C would reach the command twice
            )
        except OSError as error:  # such as a virtual environment without its Python
            return Outcome(member, _NOT_FOUND, f"{program} could not be run: {error}.")
        output = await self._output(process)
        status = process.returncode or 0
        status = status if status >= 0 else 128 - status  # as the shell has it for a signal
        return Outcome(member, status, output, time.monotonic() - begin)

    async def _output(self, process: asyncio.subprocess.Process) -> str:
        """What a process prints until it ends, which a second interrupt does not wait for."""
        self._running.add(process)
        if self.interrupted:  # in the meantime
            _interrupt(process)
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            kill(process)
            raise
        finally:
            self._running.remove(process)
        return output.decode(errors="replace").strip()


async def _outcome(member: Member, work: Callable[[Member], Awaitable[Outcome]]) -> Outcome:
    """How the work ended; an unexpected error concerns this service only."""
    try:
        return await work(member)
    except Exception as error:
        return Outcome(member, 1, "".join(traceback.format_exception(error)))


def worst_status(statuses: Sequence[int | None]) -> int:
    """The exit status for many: the highest, or 1 if something was not started and nothing failed."""
    return max((1 if status is None else status for status in statuses), default=0)


def _interrupt(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)


def kill(process: asyncio.subprocess.Process) -> None:
    """End a process that leads a session of its own, and all that it has started there."""
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:  # Windows
            process.kill()


def environment_of(member: Member) -> dict[str, str]:
    """The variables for a service's programs, with its virtual environment first on the path."""
    variables = {name: value for name, value in environment_of_programs().items() if name not in _OF_ANOTHER_PROJECT}
    if (environment := member.virtual_environment) is None:
        return variables
    path = os.pathsep.join(filter(None, [str(environment / PROGRAMS), variables.get("PATH")]))
    return variables | {"VIRTUAL_ENV": str(environment), "PATH": path}


def _python(member: Member) -> str:
    environment = member.virtual_environment
    return str(environment / PROGRAMS / "python") if environment else sys.executable
