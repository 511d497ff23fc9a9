"""Whether revisions are safe to run under traffic: `safe-migrations lint [RANGE]`.

Each revision is read as a file and as the SQL that it would run; no database is needed.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial, reduce
from itertools import chain, groupby
from pathlib import Path

from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError

from safe_migrations.history.frozen import edited_revisions, head_file_problem, new_revisions
from safe_migrations.lint.findings import Finding
from safe_migrations.lint.revision_files import Revision, run_offline
from safe_migrations.lint.rules import RULES, broken
from safe_migrations.lint.squawk import run_squawk
from safe_migrations.lint.statements import ANY, Types, types_after

_SAFE = re.compile(r"#\s*safe:\s*(?P<rule>[\w-]*)(?P<reason>\s+because\s+\S.*)?")


def lint(script_directory: ScriptDirectory, scripts: Sequence[Script], postgres_version: int) -> list[Finding]:
    """What is wrong with revisions, and with the history as a whole.

    Args:
        script_directory: the history.
        scripts: the revisions to look at.
        postgres_version: the major version that they are written for.

    Raises:
        MigrationError: squawk is not installed, or git refuses to read the repository.
    """
    types_before = _types(script_directory)
    revisions = [Revision(script, partial(types_before, script.revision)) for script in scripts]
    found: dict[Path, list[Finding]] = {revision.path: [*_own(revision)] for revision in revisions}
    for finding in run_squawk(revisions, RULES, postgres_version):
        found[finding.path].append(finding)
    judged = [sorted(_judged(revision, _merged(found[revision.path])), key=_place) for revision in revisions]
    return [*_of_history(script_directory), *chain.from_iterable(judged)]


def find_scripts(script_directory: ScriptDirectory, range_: str | None) -> list[Script]:
    """The revisions of a range, in the order in which they run.

    Args:
        script_directory: the history.
        range_: `A:B`, without A, as `alembic upgrade A:B --sql` has it; or one revision; None for those that are not
            on the main branch.

    Raises:
        CommandError: there is no such revision.
        MigrationError: git refuses to read the repository.
    """
    if range_ is None:
        return new_revisions(script_directory)
    lower, colon, upper = range_.partition(":")
    if not colon:
        return [script for script in script_directory.get_revisions(range_) if script is not None]
    try:
        return list(script_directory.iterate_revisions(upper or "heads", lower or "base"))[::-1]
    except RevisionError as error:  # Alembic's own commands make one of the other
        raise CommandError(str(error)) from error


def _own(revision: Revision) -> Iterator[Finding]:
    yield from broken(revision)
    for problem in revision.problems:
        name = "python-error" if problem.is_mistake else "needs-database"
        yield Finding(revision.path, problem.line, RULES[name], problem.reason)


def _of_history(script_directory: ScriptDirectory) -> Iterator[Finding]:
    if problem := head_file_problem(script_directory):
        yield Finding(problem[0], 1, RULES["head-file"], problem[1])
    for edited in edited_revisions(script_directory):
        rule, what = RULES["edited-revision"], f"not as in {edited.where}"
        yield Finding(edited.path, edited.line, rule, what, edited.difference.rstrip())


def _types(script_directory: ScriptDirectory) -> Callable[[str], Types]:
    """A function that tells the types that exist before a revision; it reads the history when it is first called."""

    @cache
    def before() -> dict[str, Types]:
        types: Types = {}
        found = {}
        for script in reversed(list(script_directory.walk_revisions())):
            found[script.revision] = types
            statements, problem = run_offline(script, "upgrade")
            types = reduce(types_after, statements, types | ({ANY: ""} if problem else {}))
        return found

    return lambda revision: before()[revision]


def _merged(findings: Iterable[Finding]) -> Iterator[Finding]:
    """One for each rule on a line."""
    for _, same in groupby(sorted(findings, key=_place), key=_place):
        together = list(same)
        first = together[0]
        what = ", ".join(dict.fromkeys(each.what for each in together if each.what))
        yield Finding(first.path, first.line, first.rule, what)


def _judged(revision: Revision, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Those that nobody has acknowledged, and acknowledgements of nothing."""
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
    for line in safe.keys() - used:
        yield Finding(revision.path, line, RULES["unused-acknowledgement"], safe[line][0])


def _place(finding: Finding) -> tuple[int, str]:
    return finding.line, finding.rule.name
