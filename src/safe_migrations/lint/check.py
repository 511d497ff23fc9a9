"""Whether revisions are safe to run under traffic: `safe-migrations lint [RANGE]`.

Lint reads each revision as a file, and as the SQL that it would run; it needs no database.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial, reduce
from itertools import groupby
from pathlib import Path

from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import MetaData

from safe_migrations.errors import runnable
from safe_migrations.history.frozen import edited_revisions, head_file_problem, new_revisions
from safe_migrations.history.unreleased import unreleased_tables
from safe_migrations.lint.findings import Finding
from safe_migrations.lint.offline import run_offline
from safe_migrations.lint.registry import Place
from safe_migrations.lint.revision import Revision
from safe_migrations.lint.rules import CHECKS, RULES
from safe_migrations.lint.squawk import run_squawk
from safe_migrations.lint.statements import ANY, Types, types_after
from safe_migrations.lint.still_in_models import names_in_models, still_in_models
from safe_migrations.lint.style import revisions_with_style

_SAFE = re.compile(r"#\s*safe:\s*(?P<rule>[\w-]*)(?P<reason>\s+because\s+\S.*)?")


def lint(
    script_directory: ScriptDirectory,
    scripts: Sequence[Script],
    postgres_version: int,
    load_models: Callable[[], Iterable[MetaData]] = tuple,
) -> list[Finding]:
    """The findings in revisions, and in the history as a whole.

    The rules of style do not apply to revisions that are older than the project's use of this library.

    Args:
        load_models: returns the metadata of the models; called only if a revision drops or renames something.

    Raises:
        NotInstalledError: squawk is not installed.
        HistoryError: git can't read the repository.
    """
    revisions: list[Revision] = []
    types_before = _types(script_directory, revisions)
    revisions += (Revision(script, partial(types_before, script.revision)) for script in scripts)
    findings: dict[Path, list[Finding]] = {revision.path: [*_in_revision(revision)] for revision in revisions}
    for finding in run_squawk(revisions, postgres_version):
        findings[finding.path].append(finding)
    for revision, (line, what) in still_in_models(
        script_directory, revisions, cache(lambda: names_in_models(load_models()))
    ):
        findings[revision.path].append(Finding(revision.path, line, RULES["still-in-models"], what))
    for revision in revisions:
        for line, what in _released(script_directory, revision):
            findings[revision.path].append(Finding(revision.path, line, RULES["released-table"], what))
    with_style = cache(partial(revisions_with_style, script_directory))
    remaining = [
        finding
        for revision in revisions
        for finding in sorted(_unacknowledged(revision, _merged(findings[revision.path])), key=_place)
        if not finding.rule.is_style or revision.script.revision in with_style()
    ]
    return [*_in_history(script_directory), *remaining]


def find_scripts(script_directory: ScriptDirectory, range_: str | None) -> list[Script]:
    """The revisions of a range, in the order in which they run.

    Args:
        range_: `A:B`, without A, as in `alembic upgrade A:B --sql`; or one revision; None for the revisions that are
            not on the main branch.

    Raises:
        CommandError: there is no such revision.
        HistoryError: git can't read the repository.
    """
    if range_ is None:
        return new_revisions(script_directory)
    lower, colon, upper = range_.partition(":")
    if not colon:
        return [script for script in script_directory.get_revisions(range_) if script is not None]
    try:
        return list(script_directory.iterate_revisions(upper or "heads", lower or "base"))[::-1]
    except RevisionError as error:  # as Alembic's own commands do
        raise CommandError(str(error)) from error


def _in_revision(revision: Revision) -> Iterator[Finding]:
    baseline = {statement.line for statement in revision.upgrade if revision.is_of_baseline(statement)}
    for name, check in CHECKS.items():
        places = ((line, what) for line, what in check(revision) if line not in baseline)
        yield from (Finding(revision.path, line, RULES[name], what) for line, what in places)
    for problem in revision.problems:
        yield Finding(revision.path, problem.line, RULES[problem.rule], problem.reason)


def _in_history(script_directory: ScriptDirectory) -> Iterator[Finding]:
    if problem := head_file_problem(script_directory):
        what, _, remedy = problem[1].partition("\n")
        yield Finding(problem[0], 1, RULES["head-file"], what, runnable(remedy))
    for edited in edited_revisions(script_directory):
        rule, what = RULES["edited-revision"], f"differs from {edited.where}"
        yield Finding(edited.path, edited.line, rule, what, edited.difference.rstrip())


def _released(script_directory: ScriptDirectory, revision: Revision) -> Iterator[Place]:
    """The tables that a new revision declares as unreleased, although a release may have them."""
    if revision.unreleased:
        unreleased = unreleased_tables(script_directory, before=revision.script.revision)
        if unreleased is not None and (released := revision.unreleased - unreleased):
            yield revision.line_of("unreleased_tables"), ", ".join(sorted(released))


def _types(script_directory: ScriptDirectory, revisions: Iterable[Revision]) -> Callable[[str], Types]:
    """A function that returns the types that exist before a revision; its first call reads the rest of the history."""

    @cache
    def by_revision() -> dict[str, Types]:
        types: Types = {}
        before = {}
        runs = {revision.script.revision: (revision.upgrade, revision.upgrade_problems) for revision in revisions}
        for script in reversed(list(script_directory.walk_revisions())):
            before[script.revision] = types
            statements, problems = runs.get(script.revision) or run_offline(script, "upgrade")
            types = reduce(types_after, statements, types | ({ANY: ""} if problems else {}))
        return before

    return lambda revision: by_revision()[revision]


def _merged(findings: Iterable[Finding]) -> Iterator[Finding]:
    """One finding for each rule on a line."""
    for _, same_place in groupby(sorted(findings, key=_place), key=_place):
        first, *others = same_place
        what = ", ".join(dict.fromkeys(finding.what for finding in (first, *others) if finding.what))
        yield replace(first, what=what)


def _unacknowledged(revision: Revision, findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings that are not acknowledged, and the acknowledgements of nothing."""
    safe = {line: match for line, text in revision.comments.items() if (match := _SAFE.match(text))}
    used: set[int] = set()
    for finding in findings:
        lines = {
            line
            for line, _ in revision.comments_at(finding.line)
            if line in safe and safe[line]["reason"] and safe[line]["rule"] == finding.rule.name
        }
        used |= lines
        if not lines and not (finding.rule.by_acknowledged and revision.acknowledged):
            yield finding
    if revision.is_empty("downgrade"):  # until release 2.0, it had to be acknowledged below an added value of an enum
        used |= {line for line in safe if safe[line]["rule"] == "empty-downgrade"}
    for line in safe.keys() - used:
        yield Finding(revision.path, line, RULES["unused-acknowledgement"], safe[line][0])


def _place(finding: Finding) -> tuple[int, str]:
    return finding.line, finding.rule.name
