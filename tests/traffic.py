"""Readers and writers of a database, as a service's replicas are, and what they meet."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import URL, Executable
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from lock_effects import error_name

SESSIONS = 4
PAUSE = 0.03  # seconds between two rounds, at least
LONGEST_STALL = 3.0  # seconds; the lock timeout of a try, and what a busy machine adds


@dataclass
class Traffic:
    """What runs again and again, and what it has met.

    Attributes:
        works: which statements run; they may be replaced at any time.
        longest: how long each of them took at most, in seconds.
        errors: those that failed, as asyncpg's class and the statement.
        rounds: how many times all of them were run.
        thread: where they run.
    """

    works: Sequence[Executable]
    longest: dict[Executable, float] = field(default_factory=dict)
    errors: list[tuple[str, str]] = field(default_factory=list)
    rounds: int = 0
    thread: "Future[None] | None" = None

    def let_pass(self, rounds: int = 2) -> None:
        """Wait until all works were begun and ended so many times more; the first round may have begun before."""
        until, deadline = self.rounds + rounds, time.monotonic() + 60
        while self.rounds < until:
            if self.thread is not None and self.thread.done():
                self.thread.result()
            assert time.monotonic() < deadline, "the traffic stands still"
            time.sleep(0.005)

    async def _warm_up(self, engine: AsyncEngine) -> None:
        """Let each connection of the pool prepare all statements."""
        connections = [await engine.connect() for _ in range(SESSIONS)]
        for connection in connections:
            for work in self.works:
                await connection.execute(work)
            await connection.close()

    async def _round(self, engine: AsyncEngine) -> None:
        await asyncio.gather(*(self._run(engine, work) for work in self.works))
        self.rounds += 1

    async def _run(self, engine: AsyncEngine, statement: Executable) -> None:
        async with engine.connect() as connection:
            begun = time.monotonic()
            try:
                await connection.execute(statement)
            except DBAPIError as error:
                self.errors.append((error_name(error), str(error.statement)))
            self.longest[statement] = max(self.longest.get(statement, 0), time.monotonic() - begun)


@contextmanager
def traffic(database: URL, works: Sequence[Executable], **options: Any) -> Iterator[Traffic]:
    """Run works again and again, on the warm connections of a pool.

    Args:
        database: its URL.
        works: what to run, all of them in each round.
        options: of the dialect, such as `prepared_statement_cache_size`.
    """
    running = Traffic(works)
    stop = threading.Event()

    async def run() -> None:
        engine = create_async_engine(
            database,
            isolation_level="AUTOCOMMIT",
            pool_size=SESSIONS,
            max_overflow=0,
            connect_args={"server_settings": {"application_name": "traffic"}, **options},
        )
        await running._warm_up(engine)
        while not stop.is_set():
            begun = time.monotonic()
            await running._round(engine)
            await asyncio.sleep(max(PAUSE, 4 * (time.monotonic() - begun)))  # which leaves a core to what is tested
        await engine.dispose()

    with ThreadPoolExecutor(max_workers=1) as executor:
        running.thread = executor.submit(asyncio.run, run())
        try:
            running.let_pass()
            yield running
        finally:
            stop.set()
        running.thread.result()
