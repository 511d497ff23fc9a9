"""The status of all services as text: a table, and below it what to do next, once for each kind."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import indent, wrap

from safe_migrations.command_line import WIDTH, as_table
from safe_migrations.errors import runnable
from safe_migrations.fleet.status import IN_ITS_ENVIRONMENT, ServiceStatus
from safe_migrations.operate.status import COULD_NOT_TELL
from safe_migrations.printable import printable
from safe_migrations.revisions import AT_HEAD

SHOWN = 20  # names of services in a list


def as_text(statuses: Sequence[ServiceStatus]) -> str:
    """The services as text, those first that need something."""
    rows = sorted(_short_names(statuses), key=lambda status: (not _needs_something(status), status.path))
    columns = {title: [printable(cell(status)) for status in rows] for title, cell in _COLUMNS.items()}
    columns = {title: cells for title, cells in columns.items() if any(cells)}
    table = as_table(list(columns), list(zip(*columns.values(), strict=True)))
    parts = [table, *_advice(rows), *_problems(rows), *_not_compared(rows), *_templates(rows), _summary(rows)]
    return "\n\n".join(parts)


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


def _pending(status: ServiceStatus) -> str:
    phases = [revision["phase"] or "" for revision in status.pending]
    return ", ".join(f"{phases.count(phase)} {phase}".strip() for phase in dict.fromkeys(phases))


def _backfill(backfill: Mapping[str, object]) -> str:
    percent = backfill["percent"]
    return f"{backfill['name']} {'?' if percent is None else percent} %"


def _last_applied(status: ServiceStatus) -> str:
    if status.last_applied is None:
        return ""
    number = (status.last_applied["name"] or "").partition(" ")[0]
    return (status.last_applied["at"] or number)[: len("2026-01-01")]


def _advice(rows: Sequence[ServiceStatus]) -> Iterator[str]:
    """What to do next in the services whose state is known, once for all that need the same."""
    kinds: dict[tuple[str, str], list[ServiceStatus]] = {}
    for status in rows:
        if not status.problem and (status.exit_status or status.backfills):
            kinds.setdefault((status.state, _general(status)), []).append(status)
    for (state, following), alike in kinds.items():
        where = "In this folder" if len(alike) == 1 else "In each of these folders"
        yield f"{_named(state, alike)}. {where}:\n{indent(runnable(following), '  ')}"


def _general(status: ServiceStatus) -> str:
    """What to do next, without the names of the service's own variables."""
    service = status.member.service
    return status.next.replace(service.settings, "the variables of its database") if service else status.next


def _not_compared(rows: Sequence[ServiceStatus]) -> Iterator[str]:
    """Why models could not be compared."""
    reasons: dict[str, list[ServiceStatus]] = {}
    for status in rows:
        if _is_unproven(status):
            reasons.setdefault(", ".join(status.not_compared), []).append(status)
    for reason, alike in reasons.items():
        advice = f"{printable(reason)}.\n{runnable(IN_ITS_ENVIRONMENT)}"
        yield f"{_named('models not compared', alike)}\n{indent(advice, '  ')}"


def _problems(rows: Sequence[ServiceStatus]) -> Iterator[str]:
    """Why services can't be read, each in a line; commands that several need, once."""
    kinds: dict[int, list[ServiceStatus]] = {}
    for status in rows:
        if status.problem:
            kinds.setdefault(status.exit_status, []).append(status)
    for status_of_all, alike in kinds.items():
        reasons = []
        commands: dict[str, None] = {}
        for status in alike:
            reason, *lines = (status.problem or "").splitlines()
            reasons.append(f"  {printable(status.path)}: {reason}")
            commands |= dict.fromkeys(f"  {line}" for line in lines)
        yield "\n".join([f"{COULD_NOT_TELL}, exit status {status_of_all} ({len(alike)}):", *reasons, *commands])


def _templates(rows: Sequence[ServiceStatus]) -> Iterator[str]:
    """The releases of templates that wait, and those that could not be found out."""
    behind = [status for status in rows if status.template_waits]
    if behind:
        yield f"{_named('a release of the template waits', behind)}. To update all:\n  safe-migrations fleet update"
    unknown = [status for status in rows if status.template and not status.newest_template]
    if unknown:
        yield f"{_named('newest template unknown', unknown)}\n  To see why: safe-migrations template-check"


def _named(what: str, statuses: Sequence[ServiceStatus]) -> str:
    """A kind with the names of its services."""
    names = [printable(status.path) for status in statuses[:SHOWN]]
    more = len(statuses) - SHOWN
    listed = ", ".join([*names, *([f"{more} more"] if more > 0 else [])])
    return "\n".join(wrap(f"{what} ({len(statuses)}): {listed}", WIDTH, break_on_hyphens=False))


def _summary(rows: Iterable[ServiceStatus]) -> str:
    states = Counter(status.state for status in rows)
    total = states.total()
    counts = ", ".join(f"{number} {state}" for state, number in states.most_common())
    return f"{total} {'service' if total == 1 else 'services'}: {counts}."


_COLUMNS: dict[str, Callable[[ServiceStatus], str]] = {
    "service": lambda status: status.path,
    "template": _template,
    "library": lambda status: status.library or "?",
    "database": lambda status: f"{status.database or '?'}:{status.port or '?'}",
    "state": _state,
    "pending": _pending,
    "backfills": lambda status: ", ".join(_backfill(backfill) for backfill in status.backfills),
    "applied": _last_applied,
}
