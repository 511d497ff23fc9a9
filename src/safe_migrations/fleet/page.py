"""The page of a fleet: one HTML file that loads nothing else, and runs no script but its own."""

import asyncio
import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

from safe_migrations.errors import ConfigurationError, NotInstalledError
from safe_migrations.fleet.details import Details, RevisionDetails
from safe_migrations.fleet.diagram import LINE, PADDING
from safe_migrations.fleet.status import ServiceStatus
from safe_migrations.fleet.status_table import advice, by_need
from safe_migrations.fleet.worker_pool import Workers
from safe_migrations.printable import counted, printable
from safe_migrations.revisions import COULD_NOT_TELL
from safe_migrations.upgrade.phases import EXPAND
from safe_migrations.upgrade.states import AT_HEAD, BEHIND, DRIFT, FRESH

try:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup
except ModuleNotFoundError:
    raise NotInstalledError("jinja2", "fleet") from None

GENERATOR = "safe-migrations fleet page"
LATEST = 8  # applied revisions that are shown at once
COLUMNS = ("Service", "State", "Pending", "Backfills", "Drift", "Template", "Library", "Database", "Last applied")
_COLOURS = {AT_HEAD: "good", **dict.fromkeys((BEHIND, FRESH, DRIFT), "warn"), COULD_NOT_TELL: "unknown"}


@dataclass(frozen=True)
class Stage:
    """Pending revisions of one phase that follow each other.

    Attributes:
        phase: theirs.
        revisions: their details.
    """

    phase: str
    revisions: Sequence[Mapping[str, Any]]

    @property
    def backfills(self) -> list[str]:
        """The names of the backfills that they require."""
        return list(dict.fromkeys(name for revision in self.revisions for name in revision["backfills"]))


@dataclass(frozen=True)
class Timeline:
    """The revisions of a service, in their order.

    Attributes:
        earlier: the applied ones except the latest.
        latest: the latest applied ones.
        stages: the pending ones.
        unknown: all, if it is not known which are applied.
    """

    earlier: Sequence[Mapping[str, Any]] = ()
    latest: Sequence[Mapping[str, Any]] = ()
    stages: Sequence[Stage] = ()
    unknown: Sequence[Mapping[str, Any]] = ()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return any((self.earlier, self.latest, self.stages, self.unknown))


def refuse_other_file(file: Path) -> None:
    """Refuse to overwrite a file that is not a page.

    Raises:
        ConfigurationError: its folder does not exist, or it is something else than a page of this command.
    """
    if not file.parent.is_dir():
        raise ConfigurationError(f"There is no folder {file.parent}. Create that folder, or name another file.")
    if file.exists() and not _is_page(file):
        raise ConfigurationError(
            f"{file} exists and is not a page of this command. Delete that file, or name another file."
        )


def _is_page(file: Path) -> bool:
    """Whether a file is such a page, or an empty file."""
    text = file.read_bytes()[:4096] if file.is_file() else b"x"
    return not text or GENERATOR.encode() in text


def read_details(statuses: Sequence[ServiceStatus], ended: Callable[[], None]) -> list[Mapping[str, Any]]:
    """Read the revisions and the models of services, by their `env.py`.

    Returns:
        For each the fields of `Details`; or `problem`, or `not_compared`, with the reason why there are none.
    """

    async def read() -> list[Mapping[str, Any]]:
        async with Workers(len(statuses)) as processes:

            async def ask(status: ServiceStatus) -> Mapping[str, Any]:
                pending = [revision["revision"] for revision in status.pending]
                answer = {} if status.member.problem else await processes.ask(status.member, pending=pending)
                ended()
                return answer

            return await asyncio.gather(*map(ask, statuses))

    return asyncio.run(read())


def as_html(statuses: Sequence[ServiceStatus], details: Sequence[Mapping[str, Any]], time: datetime) -> str:
    """The page.

    Args:
        time: when they were read, in UTC.
    """
    environment = Environment(
        autoescape=True, finalize=_printable, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {"digest": _digest, "is_command": _is_command, "counted": counted}
    of_path = {status.path: {**_NO_DETAILS, **answer} for status, answer in zip(statuses, details, strict=True)}
    services = by_need(statuses)
    return environment.from_string(_text("page.html.jinja")).render(
        advice=advice(services),
        colours=_COLOURS,
        columns=COLUMNS,
        details=of_path,
        generator=GENERATOR,
        line_height=LINE,
        padding=PADDING,
        phases={status.path: status.phases for status in services},
        script=_text("page.js"),
        services=services,
        states=Counter(status.state for status in services),
        style=_text("page.css"),
        time=time,
        timelines={status.path: timeline(status, of_path[status.path]["revisions"]) for status in services},
    )


_NO_DETAILS = {**asdict(Details()), "problem": "", "not_compared": ""}


def timeline(status: ServiceStatus, revisions: Sequence[Mapping[str, Any]]) -> Timeline:
    """What the page shows of the revisions of a service.

    Args:
        revisions: all, in their order; none if they could not be read.
    """
    known = {revision["revision"]: revision for revision in revisions}
    if status.state == COULD_NOT_TELL or (known and not known.keys() >= set(status.current)):
        return Timeline(unknown=revisions)
    pending = [known.get(revision["revision"]) or _without_sql(revision) for revision in status.pending]
    waiting = {revision["revision"] for revision in pending}
    applied = [revision for revision in revisions if revision["revision"] not in waiting]
    stages = [
        Stage(phase, list(group)) for phase, group in groupby(pending, lambda revision: revision["phase"] or EXPAND)
    ]
    return Timeline(applied[:-LATEST], applied[-LATEST:], stages)


def _without_sql(revision: Mapping[str, str | None]) -> dict[str, Any]:
    """A pending revision whose details could not be read."""
    name, file = str(revision["name"]), str(revision["file"])
    return asdict(RevisionDetails(str(revision["revision"]), name, file, revision["phase"]))


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _printable(value: object) -> object:
    """A text of a service without control codes and marks of direction, which would rearrange the page."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(map(printable, value.expandtabs(4).split("\n")))
    return value


def _digest(text: str) -> str:
    """As a Content-Security-Policy names an inline script or style that it allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _is_command(line: str) -> bool:
    """Whether a line of advice is a command; each command is on a line of its own."""
    return line.strip().startswith(("alembic ", "git ", "pdm ", "safe-migrations "))
