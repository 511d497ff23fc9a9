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
    needed: dict[PlannedStep, set[PlannedStep]] = {}  # by the steps that are left
    for step in steps:
        needed[step] = {maker for name in required_by(step.upgrade) for maker in makers[name]}
        for name in provided_by(step.upgrade):
            makers[name].append(step)
    while needed:
        runnable = _runnable(needed)
        yield runnable
        for step in runnable:
            del needed[step]


def _runnable(needed: Mapping[PlannedStep, set[PlannedStep]]) -> list[PlannedStep]:
    """All steps of the first table that needs no other; in a cycle, the first ones of a table."""
    tables: dict[str, list[PlannedStep]] = {}
    for step in needed:
        tables.setdefault(step.table, []).append(step)
    possible = {table: list(_until_blocked(steps, needed)) for table, steps in tables.items()}
    whole = (steps for table, steps in possible.items() if steps == tables[table])
    return next(whole, None) or next(filter(None, possible.values()))


def _until_blocked(steps: list[PlannedStep], needed: Mapping[PlannedStep, set[PlannedStep]]) -> Iterator[PlannedStep]:
    """The first steps of a table, up to one that needs a step of another table that is left."""
    elsewhere = needed.keys() - steps
    return takewhile(lambda step: needed[step].isdisjoint(elsewhere), steps)
