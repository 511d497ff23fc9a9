"""The registry of lint's rules: for each, why it exists, what to write instead, and the function that checks it.

Arranged as in https://github.com/ankane/strong_migrations, with the text beside the code.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from safe_migrations.lint.revision import Revision

Place = tuple[int, str]  # a line, and what is there; empty where the line alone shows it
Check = Callable[[Revision], Iterator[Place]]


@dataclass(frozen=True)
class Rule:
    """A rule of lint.

    Attributes:
        name: as in the output and in `# safe: NAME because …`.
        why: which lock the statement takes, and what it does to data and running code.
        instead: the safe code; prose only where there is no code.
        by_acknowledged: whether the revision's `acknowledged = "…"` acknowledges findings of this rule too.
        is_style: whether the rule is about how a revision is written, not about what it does to data and running code.
    """

    name: str
    why: str
    instead: str
    by_acknowledged: bool = False
    is_style: bool = False


RULES: dict[str, Rule] = {}
CHECKS: dict[str, Check] = {}


def rule(
    name: str, *, why: str, instead: str, by_acknowledged: bool = False, is_style: bool = False
) -> Callable[[Check], Check]:
    """Register a rule, and, as a decorator, the function that checks it; the arguments are those of `Rule`."""
    RULES[name] = Rule(name, why, instead, by_acknowledged, is_style)

    def register(check: Check) -> Check:
        CHECKS[name] = check
        return check

    return register
