"""`pdm run docs`: write docs/rules.md from the table of lint's rules."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "template"))

from safe_migrations.lint.findings import Rule  # noqa: E402
from safe_migrations.lint.rules import RULES  # noqa: E402
from safe_migrations.lint.squawk import SWITCHED_OFF  # noqa: E402

PAGE = """\
# Rules of lint

`pdm run migrate-lint` looks for these. This page is written by `pdm run docs` from the table of
`safe_migrations/rules.py`; a test on PostgreSQL shows the harm of each. A comment
`# safe: RULE because …` on the line, or right above it, acknowledges one finding. A revision's `acknowledged = "…"`
agrees to those marked with † as well.

{rules}
## squawk's rules that are switched off

Where [squawk](https://squawkhq.com/docs/rules) knows better, its rules stand above; one that is on neither list speaks
in its words. These are not asked for:

| rule | why |
|---|---|
{off}
"""


def page() -> str:
    """The page."""
    rules = "\n".join(_section(rule) for _, rule in sorted(RULES.items()))
    off = "\n".join(f"| `{name}` | {reason} |" for name, reason in sorted(SWITCHED_OFF.items()))
    return PAGE.format(rules=rules, off=off)


def _section(rule: Rule) -> str:
    code = f"```python\n{rule.instead}\n```" if "op." in rule.instead or " = " in rule.instead else rule.instead
    mark = " †" if rule.by_acknowledged else ""
    return f"## {rule.name}{mark}\n\n{rule.hurts[0].upper()}{rule.hurts[1:]}.\n\nInstead:\n\n{code}\n"


if __name__ == "__main__":
    ROOT.joinpath("docs", "rules.md").write_text(page())
