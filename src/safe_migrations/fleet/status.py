"""The status of each service: what its files, its database and its models say, read side by side."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safe_migrations import revisions
from safe_migrations.errors import ConnectionFailedError, MigrationError
from safe_migrations.fleet import databases
from safe_migrations.fleet.releases import Template, library_release, newest_releases, read_template, waits
from safe_migrations.fleet.services import Member
from safe_migrations.fleet.worker_pool import Workers
from safe_migrations.revisions import COULD_NOT_TELL
from safe_migrations.service import Service

AT_ONCE = 20  # databases, which may be on one server

IN_ITS_ENVIRONMENT = "To see the whole state, in the service's own environment:\nsafe-migrations state"


@dataclass(frozen=True)
class ServiceStatus:
    """A service at a glance; the text, the JSON and the page of the fleet are made of this.

    Attributes:
        member: its folder and what `alembic.ini` says; not in the JSON.
        service: the service's name.
        path: of its folder, relative to the fleet's.
        template: the release of the template; None if the service was not made from one.
        newest_template: the template's newest release; None if that could not be found out.
        template_waits: whether that is newer.
        library: the release of this library that the service runs with.
        host: the server of the database, with its port.
        database: the database's name.
        port: of the server.
        state: as in `safe-migrations state`.
        exit_status: the state's, or the problem's.
        current: the revisions that the database is at.
        pending: the revisions to run in their order, each with `revision`, `name`, `phase` and `file`.
        backfills: the incomplete backfills, each with `name`, `percent`, `required_by` and `problem`.
        drift: how the models differ from the database; None where that was not compared.
        not_compared: what was not compared with the models, and why.
        last_applied: the newest of the current revisions, with `revision`, `name`, and `at`, which is None where the
            server keeps no times.
        problem: why the state could not be read.
        next: what to do next.
    """

    member: Member
    service: str
    path: str
    template: str | None = None
    newest_template: str | None = None
    template_waits: bool = False
    library: str | None = None
    host: str | None = None
    database: str | None = None
    port: int | None = None
    state: str = COULD_NOT_TELL
    exit_status: int = MigrationError.exit_status
    current: tuple[str, ...] = ()
    pending: tuple[Mapping[str, str | None], ...] = ()
    backfills: tuple[Mapping[str, Any], ...] = ()
    drift: tuple[str, ...] | None = None
    not_compared: tuple[str, ...] = ()
    last_applied: Mapping[str, str | None] | None = None
    problem: str | None = None
    next: str = ""

    @property
    def phases(self) -> Counter[str]:
        """How many revisions of each phase are pending, in the order in which the phases begin; empty for no phase."""
        return Counter(revision["phase"] or "" for revision in self.pending)

    def failed(self, error: MigrationError) -> "ServiceStatus":
        """The same service, whose state can't be read."""
        return replace(
            self, state=COULD_NOT_TELL, exit_status=error.exit_status, problem=str(error), next=error.args[0]
        )


def as_json(statuses: Sequence[ServiceStatus]) -> str:
    """The services as JSON."""
    rows = [{name: value for name, value in vars(status).items() if name != "member"} for status in statuses]
    return json.dumps(rows, indent=2)


def read_statuses(members: Sequence[Member], ended: Callable[[], None] = lambda: None) -> list[ServiceStatus]:
    """Read the status of each service; nothing is changed.

    Returns:
        The statuses, in the order of the services. A service that can't be read has the reason.
    """
    return asyncio.run(_read(members, ended))


async def _read(members: Sequence[Member], ended: Callable[[], None]) -> list[ServiceStatus]:
    templates = {member.path: read_template(member) for member in members}
    free = asyncio.Semaphore(AT_ONCE)

    async with Workers(len(members)) as processes:

        async def read(member: Member) -> ServiceStatus:
            async with free:
                status = await _status_or_problem(member, processes)
            ended()
            return status

        reading = asyncio.gather(*map(read, members))
        newest, statuses = await asyncio.gather(newest_releases(filter(None, templates.values())), reading)
    return [_with_template(status, templates[status.path], newest) for status in statuses]


def _with_template(status: ServiceStatus, template: Template | None, newest: Mapping[str, str | None]) -> ServiceStatus:
    if template is None:
        return status
    release = newest[template.repository]
    is_behind = release is not None and waits(template.release, release)
    return replace(status, template=template.release, newest_template=release, template_waits=is_behind)


async def _status_or_problem(member: Member, processes: Workers) -> ServiceStatus:
    """The status of a service; an unexpected error concerns this service only."""
    try:
        return replace(await _status(member, processes), library=library_release(member))
    except Exception as error:  # without its message, which may have a password
        problem = MigrationError(f"The state can't be read ({type(error).__name__}). {IN_ITS_ENVIRONMENT}")
        return ServiceStatus(member, member.folder.name, member.path).failed(problem)


async def _status(member: Member, processes: Workers) -> ServiceStatus:
    service = member.service
    if service is None:
        status = ServiceStatus(member, member.folder.name, member.path)
        return status.failed(member.problem or MigrationError("alembic.ini can't be read."))
    status = ServiceStatus(member, service.name, member.path)
    if not service.env_prefix:
        return _of_worker(status, await processes.ask(member))
    status = replace(status, database=service.database_name, port=service.database_port)  # until one is configured
    try:
        status = _configured(status, service)
        answer = await databases.ask(service)
        status = _of_files(status, service, answer)
    except ConnectionFailedError as error:
        return status.failed(error)
    except MigrationError as error:  # env.py may know better where the database is
        status = status.failed(error)
    return _of_worker(status, await processes.ask(member))


def _configured(status: ServiceStatus, service: Service) -> ServiceStatus:
    address, variable = service.migration_address()
    host = address.place(variable)
    return replace(status, database=address.database, host=host, port=_first_port(host))


def _first_port(host: str) -> int:
    return int(host.partition(", ")[0].rpartition(":")[2])


def _of_files(status: ServiceStatus, service: Service, answer: databases.Answer) -> ServiceStatus:
    """What the revision files and the database say without `env.py`."""
    code = revisions.read_revisions(service.version_folders())
    comparison = revisions.compare(answer.revisions, code)
    is_known = answer.revisions.keys() <= code.files.keys()
    return replace(
        status,
        state=comparison.state,
        exit_status=revisions.EXIT_STATUS[comparison.state],
        current=tuple(sorted(answer.revisions)),
        pending=tuple(_revision(name, code) for name in code.pending(answer.revisions)) if is_known else (),
        backfills=tuple(
            {"name": name, "percent": None, "required_by": None, "problem": None} for name in answer.backfills
        ),
        last_applied=_last_applied(answer.revisions, code.files),
        next=IN_ITS_ENVIRONMENT,
    )


def _revision(revision: str, code: revisions.Revisions) -> dict[str, str | None]:
    file = code.files[revision]
    name = revisions.number_and_message(revision, file, revisions.message_of(file))
    return {
        "revision": revision,
        "name": name,
        "phase": next(iter(code.places[revision].phase), None),
        "file": file.name,
    }


def _last_applied(current: Mapping[str, datetime | None], files: Mapping[str, Path]) -> dict[str, str | None] | None:
    if not current:
        return None
    revision = max(sorted(current), key=lambda name: current[name] or datetime.min.replace(tzinfo=UTC))
    file, at = files.get(revision), current[revision]
    name = revisions.number_and_message(revision, file, revisions.message_of(file)) if file else revision
    return {"revision": revision, "name": name, "at": at.isoformat(timespec="seconds") if at else None}


def _of_worker(status: ServiceStatus, answer: Mapping[str, Any]) -> ServiceStatus:
    """The status with what `safe-migrations state` reports."""
    if "problem" in answer:
        error = MigrationError(answer["problem"])
        error.exit_status = answer["exit_status"]
        return status.failed(error)
    if "not_compared" in answer:
        return _not_compared(status, answer["not_compared"])
    report = answer["report"]
    percents = answer["percents"]
    names = {revision: name.rpartition(" (")[0] for revision, name in report["names"].items()}
    applied = [{"revision": name, "name": names.get(name, name), "at": None} for name in report["current"]]
    return replace(
        status,
        host=answer["host"],
        port=_first_port(answer["host"]),
        database=answer["database"],
        state=report["state"],
        exit_status=report["exit_status"],
        current=tuple(report["current"]),
        pending=tuple(report["pending"]),
        backfills=tuple({**backfill, "percent": percents[backfill["name"]]} for backfill in report["backfills"]),
        drift=None if report["drift"] is None else tuple(report["drift"]),
        not_compared=tuple(report["not_compared"]),
        last_applied=status.last_applied or (applied[-1] if applied else None),
        problem=None,
        next=report["next"],
    )


def _not_compared(status: ServiceStatus, reason: str) -> ServiceStatus:
    """The status by files and database alone."""
    if status.state == revisions.FRESH:  # or the database has tables that `env.py` excludes
        return status.failed(MigrationError(f"The database has no revision, and {reason}. {IN_ITS_ENVIRONMENT}"))
    if status.problem or status.state == COULD_NOT_TELL:
        problem = status.problem or f"The state can't be read: {reason}. {IN_ITS_ENVIRONMENT}"
        return replace(status, problem=problem, next=IN_ITS_ENVIRONMENT)
    return replace(status, not_compared=(reason,))
