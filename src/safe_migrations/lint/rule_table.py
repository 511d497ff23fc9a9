"""The table of the rules of lint: what hurts, and what to write instead; and the function that finds it.

Arranged as in https://github.com/ankane/strong_migrations, with the text beside the code.
"""

from collections.abc import Callable, Iterator

from safe_migrations.lint.findings import Finding, Rule
from safe_migrations.lint.revision_files import Revision
from safe_migrations.lint.squawk import SQUAWK_RULES
from safe_migrations.lint.statements import (
    ALTER_TABLE,
    Statement,
    bare,
)

Place = tuple[int, str]  # a line, and what is there; empty where the line alone tells it
Check = Callable[[Revision], Iterator[Place]]

RULES: dict[str, Rule] = {each.name: each for each in SQUAWK_RULES}
CHECKS: dict[str, Check] = {}


def rule(name: str, *, hurts: str, instead: str, by_acknowledged: bool = False) -> Callable[[Check], Check]:
    """Put a rule into the table, with the function that finds where a revision breaks it.

    Args:
        name: of the rule, as people write it in `# safe: NAME because …`.
        hurts: which lock, and what that or the change itself does to whom.
        instead: the safe code.
        by_acknowledged: whether the revision's `acknowledged = "…"` agrees to it, too.
    """
    RULES[name] = Rule(name, hurts, instead, by_acknowledged)

    def add(check: Check) -> Check:
        CHECKS[name] = check
        return check

    return add


def broken(revision: Revision) -> Iterator[Finding]:
    """Where a revision breaks the rules that have a function.

    Args:
        revision: the one to look at.
    """
    for name, check in CHECKS.items():
        for line, what in check(revision):
            yield Finding(revision.path, line, RULES[name], what)


def altered(revision: Revision) -> Iterator[tuple[Statement, str, str]]:
    """What is altered in tables that others use: the table, and the rest of the statement.

    Args:
        revision: the one to look at.
    """
    for statement in revision.upgrade:
        match = ALTER_TABLE.match(statement.plain)
        if match and bare(match[1]) not in revision.created:
            yield statement, bare(match[1]), match[2]
