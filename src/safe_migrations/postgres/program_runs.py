"""Running PostgreSQL's programs, with the progress of what takes long, and their errors in a line."""

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from safe_migrations.env_files import environment_of_programs
from safe_migrations.errors import BackupError
from safe_migrations.logs import write
from safe_migrations.postgres.database import Database, client_environment
from safe_migrations.postgres.programs import Tool
from safe_migrations.postgres.timeouts import CONNECT_TIMEOUT
from safe_migrations.printable import printable

END_TIMEOUT = 5.0  # seconds, between SIGTERM and SIGKILL
FIRST_REPORT, NEXT_REPORTS = 1.0, 5.0  # seconds
# They override the host of the URL.
REDIRECTING = ("PGHOSTADDR", "PGSERVICE")


async def run_program(
    tool: Tool,
    *arguments: str,
    database: Database | None = None,
    settings: Sequence[str] = (),
    progress: Callable[[], str] = str,
) -> tuple[int, str]:
    """Run a program, with settings of its session, and return its exit status and standard error."""
    program = Path(tool.path).stem
    try:
        process = await asyncio.create_subprocess_exec(
            tool.path,
            *arguments,
            env=_environment(program, database, settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise BackupError(f"{tool.path} could not be run ({error.strerror}). Reinstall this program.") from error
    answer = asyncio.create_task(process.communicate())
    reporting = asyncio.create_task(
        report_progress(
            lambda seconds: write(f"{program}: {seconds:.0f} s{progress()} so far", sys.stderr, seconds=seconds)
        )
    )
    try:
        await asyncio.wait({answer})
    finally:  # also when cancelled
        reporting.cancel()
        if not answer.done():
            await _end(process, answer)
    return process.returncode or 0, answer.result()[1].decode(errors="replace")


def _environment(program: str, database: Database | None, settings: Sequence[str]) -> dict[str, str]:
    inherited = {name: value for name, value in environment_of_programs("PG").items() if name not in REDIRECTING}
    ours = {"PGCONNECT_TIMEOUT": f"{CONNECT_TIMEOUT:.0f}", "PGAPPNAME": f"safe_migrations {program}", "LC_ALL": "C"}
    environment = inherited | ours | (client_environment(database.url) if database is not None else {})
    options = [environment.get("PGOPTIONS", ""), *(f"-c {setting}" for setting in settings)]
    return environment | {"PGOPTIONS": " ".join(options).strip()}


def problem_of(program: str, status: int, errors: str) -> str | None:
    """The last errors that a program printed, without details and statements, which hold data."""
    if status == 0:
        return None
    messages = re.findall(rf"^{program}: (?:error|detail: Error message from server): (.+)$", errors, re.MULTILINE)
    if not messages:
        messages = [f"ended by signal {-status}" if status < 0 else f"exit status {status}", *errors.splitlines()[-1:]]
    return printable("; ".join(" ".join(line.split()) for line in messages[-2:]))


async def report_progress(report: Callable[[float], None]) -> None:
    """Report what takes long, after a second and then every few seconds, until this task is cancelled.

    Args:
        report: takes the elapsed seconds.
    """
    started, wait = time.monotonic(), FIRST_REPORT
    while True:
        await asyncio.sleep(wait)
        report(time.monotonic() - started)
        wait = NEXT_REPORTS


async def _end(process: asyncio.subprocess.Process, answer: asyncio.Task[tuple[bytes, bytes]]) -> None:
    with suppress(ProcessLookupError):
        process.terminate()  # the program then cancels its statement on the server
        if not (await asyncio.wait({answer}, timeout=END_TIMEOUT))[0]:
            process.kill()
    await answer
