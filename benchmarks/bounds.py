"""How long a migration blocks readers and waits itself, how many connections it takes, and what many tables cost."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from sqlalchemy import URL

from blocking_statement import AT_THE_GATE, wait_for
from lock_holder import connect, read_one_after_the_other
from support import Service, fetch

UPGRADE = ("alembic", "upgrade", "head")
TABLES = """
op.execute("CREATE TABLE gate ()")
op.execute("CREATE TABLE entry (id bigint NOT NULL) PARTITION BY LIST (id)")
for number in range(10):
    op.execute(f"CREATE TABLE entry_{number} PARTITION OF entry FOR VALUES IN ({number})")
    op.execute(f"CREATE TABLE other_{number} (id bigint)")
"""
SLOW = 'op.execute("SELECT pg_sleep(1)")'
GIVE_UP = 2  # seconds, the statement timeout of the upgrade that meets a silent server
LONGEST = 30.0  # seconds that an upgrade may take that has no bound
CONNECTIONS = """
    SELECT count(*) AS number FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
MANY_TABLES = """
    DO $$ BEGIN
      FOR number IN 1..10000 LOOP
        EXECUTE format(
          'CREATE TABLE archive_%s (id bigint PRIMARY KEY, name text UNIQUE, amount numeric(10, 2))', number
        );
        IF number % 500 = 0 THEN COMMIT; END IF;
      END LOOP;
    END $$
"""


async def longest_stall(
    service: Service, database: URL, holders: list[str], seconds: float, read: str
) -> tuple[float, float]:
    """Upgrade while idle transactions end one after the other: the longest read meanwhile, and the whole upgrade.

    Args:
        service: with a pending revision.
        database: the service's.
        holders: the tables that a transaction each has read.
        seconds: from the end of one of these transactions to the next.
        read: a query of what the revision changes.
    """
    reader = await connect(database, "reader")
    try:
        holding = asyncio.create_task(read_one_after_the_other(database, holders, seconds))
        await asyncio.sleep(0.3)
        begun = time.perf_counter()
        upgrade = service.start(*UPGRADE)
        ended = asyncio.create_task(asyncio.to_thread(upgrade.communicate))
        longest = 0.0
        while not ended.done():
            before = time.perf_counter()
            await reader.fetch(read)
            longest = max(longest, time.perf_counter() - before)
            await asyncio.sleep(0)
        whole = time.perf_counter() - begun
        await holding
        if upgrade.returncode != 0:
            raise RuntimeError(f"The upgrade behind an idle transaction failed:\n{(await ended)[1]}")
        return longest, whole
    finally:
        await reader.close()


def seconds_until_given_up(service: Service, database: URL) -> float:
    """How long an upgrade waits for a server process that has stopped, in seconds; at most `LONGEST`.

    Args:
        service: whose next revision is `GATE`.
        database: the service's.
    """
    upgrade = service.start(*UPGRADE, MIGRATION_STATEMENT_TIMEOUT=f"{GIVE_UP}s")
    (pid,) = wait_for(database, AT_THE_GATE)
    os.kill(pid, signal.SIGSTOP)
    begun = time.perf_counter()
    try:
        upgrade.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        upgrade.send_signal(signal.SIGKILL)
        upgrade.communicate()
    finally:
        os.kill(pid, signal.SIGCONT)
    return time.perf_counter() - begun


@contextmanager
def count_connections(database: URL) -> Iterator[list[int]]:
    """Count, again and again, the connections to a database while something runs.

    Args:
        database: whose connections are counted.
    """
    numbers: list[int] = []
    ended = Event()

    def count() -> None:
        while not ended.wait(0.05):
            numbers.append(fetch(database, CONNECTIONS)[0].number)

    thread = Thread(target=count)
    thread.start()
    try:
        yield numbers
    finally:
        ended.set()
        thread.join()


def seconds_and_memory(service: Service, *command: str) -> tuple[float, float]:
    """How long a command takes, in seconds, and its memory at its peak, in megabytes.

    Args:
        service: whose command it is.
        command: to run.
    """
    begun = time.perf_counter()
    process = service.start(*command)
    for pipe in (process.stdout, process.stderr):
        Thread(target=lambda pipe=pipe: pipe.read(), daemon=True).start()
    _, _, usage = os.wait4(process.pid, 0)
    return time.perf_counter() - begun, usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
