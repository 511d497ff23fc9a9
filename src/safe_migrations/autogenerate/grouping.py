"""Which changes share a step, and which steps share a revision."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile

from safe_migrations.autogenerate.dependencies import Name, provided_by, required_by
from safe_migrations.autogenerate.plan import Change, PlannedRevision, PlannedStep
from safe_migrations.upgrade.phases import CONTRACT, EXPAND


def plan_revisions(changes: Iterable[Change]) -> list[PlannedRevision]:
    """As few revisions as safety allows, for changes in order: one for each table in each phase."""
    steps: dict[tuple[object, ...], list[Change]] = {}
    for number, change in enumerate(changes):
        key = (change.phase, change.stage, number if change.alone else (change.table, change.locks))
        steps.setdefault(key, []).append(change)
    planned = [PlannedStep(changes) for changes in steps.values()]
    return [
        PlannedRevision(together)
        for phase in (EXPAND, CONTRACT)
        for together in _by_table([step for step in planned if step.phase == phase])
    ]


def _by_table(steps: list[PlannedStep]) -> Iterator[list[PlannedStep]]:
    """The steps of each table, after the steps of other tables that they need; in parts only in a cycle."""
    makers: defaultdict[Name, list[PlannedStep]] = defaultdict(list)
    needed: dict[PlannedStep, list[PlannedStep]] = {}  # by the steps that are left
    for step in steps:
        names = required_by(step.upgrade)
        needed[step] = [maker for name in names for maker in makers[name] if maker.table != step.table]
        for name in provided_by(step.upgrade):
            makers[name].append(step)
    while needed:
        together = _next(needed)
        yield together
        for step in together:
            del needed[step]


def _next(needed: Mapping[PlannedStep, list[PlannedStep]]) -> list[PlannedStep]:
    """All steps of the first table that waits for no other; in a cycle, the first steps of a table."""
    tables: dict[str, list[PlannedStep]] = {}
    for step in needed:
        tables.setdefault(step.table, []).append(step)
    parts = [list(takewhile(lambda step: needed.keys().isdisjoint(needed[step]), own)) for own in tables.values()]
    whole = (part for part, own in zip(parts, tables.values(), strict=True) if part == own)
    return next(whole, None) or next(filter(None, parts))
