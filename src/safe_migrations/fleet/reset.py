"""`fleet reset`: empty development databases at head. Any other database is refused before the first change."""

import asyncio
import shutil
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from safe_migrations.command_line import as_table
from safe_migrations.errors import MigrationError, NotConfirmedError
from safe_migrations.fleet.development import DevelopmentDatabase, examine
from safe_migrations.fleet.processes import INTERRUPTED_STATUS, Jobs, Outcome
from safe_migrations.fleet.results import shown, summary
from safe_migrations.fleet.services import Member
from safe_migrations.printable import printable
from safe_migrations.prompt import confirm
from safe_migrations.revisions import EXIT_STATUS, FRESH

_DELETED = "deleted"  # a folder beside the data; a kill leaves no half of a cluster in the folder of the data


def run(members: Sequence[Member], jobs: Jobs, *, yes: bool) -> int:
    """Reset the development databases of services, and print the results.

    Returns:
        The exit status.

    Raises:
        NotConfirmedError: a database is not certainly a development database, or the user did not agree.
    """
    databases = _examine(members)
    confirm(_plan(databases), f"Reset {len(databases)} databases", yes=yes)
    with shown("Resetting", len(members)) as ended:
        outcomes = jobs.in_each(members, lambda member: _reset(member, jobs), ended)
    print(summary(outcomes))
    return jobs.exit_status(outcomes)


def _examine(members: Sequence[Member]) -> list[DevelopmentDatabase]:
    """The databases, if all of them are development databases."""

    def examined(member: Member) -> DevelopmentDatabase | str:
        try:
            return examine(member)
        except MigrationError as error:
            return f"{printable(member.path)}: {error}"

    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(examined, members))
    databases = [answer for answer in answers if isinstance(answer, DevelopmentDatabase)]
    refused = [answer for answer in answers if isinstance(answer, str)] + _shared(databases)
    if refused:
        raise NotConfirmedError(
            "Nothing was changed: these databases can't be reset, or may not be development databases:\n"
            + "\n".join(f"  {reason}" for reason in refused)
            + "\nTo reset the other databases, exclude these services by --exclude."
        )
    return databases


def _shared(databases: Sequence[DevelopmentDatabase]) -> list[str]:
    """What two services share: the reset of one would destroy the other's data."""
    users: dict[str, list[str]] = defaultdict(list)
    for database in databases:
        volumes = database.compose.volumes if database.compose else ()
        for resource in (f"port {database.port}", *(f"volume {volume}" for volume in volumes)):
            users[resource].append(printable(database.member.path))
    return [
        f"{', '.join(paths)}: these services share the {resource}." for resource, paths in users.items() if paths[1:]
    ]


def _plan(databases: Sequence[DevelopmentDatabase]) -> str:
    rows = [
        ("" if number else printable(database.member.path), content)
        for database in databases
        for number, content in enumerate(database.contents)
    ]
    fresh = sum(not database.contents for database in databases)
    table = f"This destroys:\n\n{as_table(('service', 'what'), rows)}\n\n" if rows else ""
    created = f"Services without a database, which get a new database: {fresh}.\n" if fresh else ""
    return f"{table}{created}Then each database is upgraded to head."


async def _reset(member: Member, jobs: Jobs) -> Outcome:
    begin = time.monotonic()
    try:
        database = await asyncio.to_thread(examine, member)  # examined again: the question may have waited for long
    except MigrationError as error:
        return Outcome(member, error.exit_status, str(error), result="refused: nothing was changed")
    outcome = Outcome(member, INTERRUPTED_STATUS)
    for step in _steps(database, jobs):
        if jobs.interrupted:
            return Outcome(member, INTERRUPTED_STATUS)
        outcome = await step()
        if outcome.exit_status:
            break
    result = "" if outcome.exit_status else "at head"
    return replace(outcome, seconds=time.monotonic() - begin, result=result)


def _steps(database: DevelopmentDatabase, jobs: Jobs) -> list[Callable[[], Awaitable[Outcome]]]:
    """Stop, delete, start, wait, upgrade; after a kill, the next run begins with the first step."""
    member, compose = database.member, database.compose
    ours = partial(jobs.run_module, member, "safe_migrations")
    upgrade = [partial(_check_fresh, member, jobs), partial(jobs.run_module, member, "alembic", "upgrade", "heads")]
    if compose is not None:
        return [*(partial(jobs.run, member, *command) for command in (*compose.deletion, compose.start)), *upgrade]
    stop = [partial(ours, "db-down")] if database.is_running else []
    return [*stop, partial(_delete, database), partial(ours, "db-up"), *upgrade]


async def _check_fresh(member: Member, jobs: Jobs) -> Outcome:
    """Stop unless env.py connects to the new database, which is empty."""
    state = await jobs.run_module(member, "safe_migrations", "state")
    if state.exit_status == EXIT_STATUS[FRESH]:
        return replace(state, exit_status=0)
    message = f"The new database was not upgraded, because env.py connects to another database:\n{state.output}"
    return replace(state, exit_status=state.exit_status or MigrationError.exit_status, output=message)


async def _delete(database: DevelopmentDatabase) -> Outcome:
    """Delete the data of a stopped cluster, but not the password, which `.env` has."""
    data, deleted = database.folder / "data", database.folder / _DELETED
    if deleted.exists():
        await asyncio.to_thread(shutil.rmtree, deleted)
    if data.exists():
        data.rename(deleted)
        await asyncio.to_thread(shutil.rmtree, deleted)
    return Outcome(database.member, 0)
