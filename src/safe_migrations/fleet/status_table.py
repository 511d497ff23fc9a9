"""The status of all services as text: a table, and below it what to do next, once for each kind."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import wrap

from safe_migrations.command_line import WIDTH, as_table
from safe_migrations.errors import runnable
from safe_migrations.fleet.status import IN_ITS_ENVIRONMENT, ServiceStatus
from safe_migrations.printable import counted, printable
from safe_migrations.revisions import AT_HEAD, COULD_NOT_TELL

SHOWN = 20  # names of services in a list


@dataclass(frozen=True)
class Advice:
    """The common need of several services.

    Attributes:
        what: they have, such as their state.
        paths: of the services.
        following: what to do next.
        where: to do that; empty if `following` says it.
        reasons: why each can't be read; empty for services whose state is known.
    """

    what: str
    paths: Sequence[str]
    following: str
    where: str = ""
    reasons: Sequence[str] = ()


def as_text(statuses: Sequence[ServiceStatus]) -> str:
    """The services as text; services that need something come first."""
    rows = by_need(_short_names(statuses))
    columns = {title: [printable(cell(status)) for status in rows] for title, cell in _COLUMNS.items()}
    columns = {title: cells for title, cells in columns.items() if any(cells)}
    table = as_table(list(columns), list(zip(*columns.values(), strict=True)))
    return "\n\n".join([table, *map(_paragraph, advice(rows)), _summary(rows)])


def by_need(statuses: Sequence[ServiceStatus]) -> list[ServiceStatus]:
    """The services; services that need something come first."""
    return sorted(statuses, key=lambda status: (not _needs_something(status), status.path))


def advice(rows: Sequence[ServiceStatus]) -> list[Advice]:
    """What to do next, once for all services with the same need."""
    return [*_states(rows), *_problems(rows), *_not_compared(rows), *_templates(rows)]


def _needs_something(status: ServiceStatus) -> bool:
    return bool(status.exit_status or status.backfills or status.template_waits or _is_unproven(status))


def _is_unproven(status: ServiceStatus) -> bool:
    """Whether the service has models that could not be compared, as far as that is known."""
    return status.drift is None and bool(status.not_compared) and not status.problem


def _short_names(statuses: Sequence[ServiceStatus]) -> list[ServiceStatus]:
    """The services without the folder that they all are in."""
    alike = len({Path(status.path).parent for status in statuses}) == 1
    return [replace(status, path=Path(status.path).name or ".") if alike else status for status in statuses]


def _template(status: ServiceStatus) -> str:
    if status.template is None:
        return "none"
    if status.newest_template is None:
        return f"{status.template} ?"
    return f"{status.template} → {status.newest_template}" if status.template_waits else status.template


def _state(status: ServiceStatus) -> str:
    if status.drift:
        return f"{status.state} ({len(status.drift)})"
    return f"{status.state} (?)" if status.state == AT_HEAD and _is_unproven(status) else status.state


def _backfill(backfill: Mapping[str, object]) -> str:
    percent = backfill["percent"]
    return f"{backfill['name']} {'?' if percent is None else percent} %"


def _last_applied(status: ServiceStatus) -> str:
    if status.last_applied is None:
        return ""
    number = (status.last_applied["name"] or "").partition(" ")[0]
    return (status.last_applied["at"] or number)[: len("2026-01-01")]


def _states(rows: Sequence[ServiceStatus]) -> Iterator[Advice]:
    """The next commands for the services whose state is known."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for status in rows:
        if not status.problem and (status.exit_status or status.backfills):
            kinds.setdefault((status.state, _general(status)), []).append(status.path)
    for (state, following), paths in kinds.items():
        yield Advice(state, paths, following, "In this folder" if len(paths) == 1 else "In each of these folders")


def _general(status: ServiceStatus) -> str:
    """What to do next, without the names of the service's own variables."""
    service = status.member.service
    return status.next.replace(service.settings, "the variables of its database") if service else status.next


def _not_compared(rows: Sequence[ServiceStatus]) -> Iterator[Advice]:
    """Why models could not be compared."""
    kinds: dict[str, list[str]] = {}
    for status in rows:
        if _is_unproven(status):
            kinds.setdefault(", ".join(status.not_compared), []).append(status.path)
    for reason, paths in kinds.items():
        yield Advice("models not compared", paths, f"{printable(reason)}.\n{IN_ITS_ENVIRONMENT}")


def _problems(rows: Sequence[ServiceStatus]) -> Iterator[Advice]:
    """Why services can't be read, each in a line; commands that several need, once."""
    kinds: dict[int, list[ServiceStatus]] = {}
    for status in rows:
        if status.problem:
            kinds.setdefault(status.exit_status, []).append(status)
    for exit_status, alike in kinds.items():
        problems = [_reason_and_commands(status.problem or "") for status in alike]
        reasons = [f"{status.path}: {reason}" for status, (reason, _) in zip(alike, problems, strict=True)]
        commands = dict.fromkeys(line for _, lines in problems for line in lines)
        folders = "In this folder:" if len(alike) == 1 else "In each of these folders:"
        what = f"{COULD_NOT_TELL}, exit status {exit_status}"
        following = "\n".join([folders, *commands] if commands else [])
        yield Advice(what, [status.path for status in alike], following, reasons=reasons)


def _reason_and_commands(problem: str) -> tuple[str, list[str]]:
    """The text of a problem, and its commands below the sentence that introduces them."""
    reason, *commands = problem.splitlines() or [""]
    if commands and reason.endswith(":"):
        reason, point, introduction = reason.rpartition(". ")
        return reason + point.rstrip(), [introduction, *commands]
    return reason, commands


def _templates(rows: Sequence[ServiceStatus]) -> Iterator[Advice]:
    """The releases of templates that wait, and the templates whose newest release is unknown."""
    if behind := [status.path for status in rows if status.template_waits]:
        yield Advice("a release of the template waits", behind, "safe-migrations fleet update", "To update all")
    if unknown := [status.path for status in rows if status.template and not status.newest_template]:
        yield Advice("newest template unknown", unknown, "To see why: safe-migrations template-check")


def _paragraph(advice: Advice) -> str:
    """Advice with the names of its services."""
    number, names = len(advice.paths), [*map(printable, advice.paths[:SHOWN])]
    listed = ", ".join([*names, *([f"{number - SHOWN} more"] if number > SHOWN else [])])
    title = f"{advice.what} ({number}):" + ("" if advice.reasons else f" {listed}")
    title += f". {advice.where}:" if advice.where else ""
    lines = map(printable, [*advice.reasons, *runnable(advice.following).splitlines()])
    return "\n".join([*wrap(title, WIDTH, break_on_hyphens=False), *(f"  {line}" for line in lines)])


def _summary(rows: Iterable[ServiceStatus]) -> str:
    states = Counter(status.state for status in rows)
    counts = ", ".join(f"{number} {state}" for state, number in states.most_common())
    return f"{counted(states.total(), 'service')}: {counts}."


_COLUMNS: dict[str, Callable[[ServiceStatus], str]] = {
    "service": lambda status: status.path,
    "template": _template,
    "library": lambda status: status.library or "?",
    "database": lambda status: f"{status.database or '?'}:{status.port or '?'}",
    "state": _state,
    "pending": lambda status: ", ".join(f"{number} {phase}".strip() for phase, number in status.phases.items()),
    "backfills": lambda status: ", ".join(_backfill(backfill) for backfill in status.backfills),
    "applied": _last_applied,
}
