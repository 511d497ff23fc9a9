"""A few processes that run the `env.py` of many services, each of one service after another."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

from safe_migrations.env_files import environment_of_programs
from safe_migrations.fleet.processes import kill
from safe_migrations.fleet.services import Member

TIMEOUT = 30  # seconds for a service, after which its code is taken for an endless loop
SERVICES_PER_WORKER = 5  # for fewer, starting another process takes longer than it saves
_LINE = 2**26  # bytes of an answer: a report may have many differences


class Workers:
    """Processes for a number of services, ended afterwards; a process that dies costs one answer."""

    def __init__(self, services: int) -> None:
        self._free: asyncio.Queue[Process | None] = asyncio.Queue()
        for _ in range(min(os.cpu_count() or 1, 1 + services // SERVICES_PER_WORKER)):
            self._free.put_nowait(None)

    async def ask(self, member: Member, **question: Any) -> dict[str, Any]:
        """What a worker answers to a question; `not_compared` where the code of the service has ended the process."""
        process = await self._free.get()
        answer = b""
        try:
            process = process or await _start()
            async with asyncio.timeout(TIMEOUT):
                answer = await _exchange(process, {**question, "config": str(member.config_file)})
        except TimeoutError:
            return {"not_compared": f"env.py did not end within {TIMEOUT} s"}
        finally:
            if not answer and process is not None:
                await _end(process)
                process = None
            self._free.put_nowait(process)
        return dict(json.loads(answer)) if answer else {"not_compared": "env.py ended its process"}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        while not self._free.empty():
            if process := self._free.get_nowait():
                await _end(process)


async def _start() -> Process:
    # -P: a folder `alembic` in the working directory is not the library.
    command = (sys.executable, "-P", "-m", "safe_migrations.fleet.worker")
    environment = environment_of_programs()
    return await asyncio.create_subprocess_exec(
        *command, env=environment, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, limit=_LINE, start_new_session=True
    )


async def _exchange(process: Process, question: Mapping[str, Any]) -> bytes:
    assert process.stdin and process.stdout  # noqa: S101  # for mypy
    with suppress(ConnectionError):  # the process has died; the answer is empty
        process.stdin.write(json.dumps(question).encode() + b"\n")
        await process.stdin.drain()
    return await process.stdout.readline()


async def _end(process: Process) -> None:
    kill(process)
    await process.wait()
