"""`pdm run docs`: write docs/rules.md from the table of lint's rules."""

from pathlib import Path

from safe_migrations.lint.registry import Rule
from safe_migrations.lint.rules import RULES
from safe_migrations.lint.rules.squawk import SWITCHED_OFF

TARGET = Path(__file__).parent.parent / "docs" / "rules.md"

PAGE = """\
# Rules of lint

These are the rules of `safe-migrations lint`, which is `pdm run migrate-lint` in a service. A test on PostgreSQL proves
the effect of each. A comment `# safe: RULE because …` on the line, or directly above it, acknowledges one finding. A
revision's `acknowledged = "…"` also acknowledges the rules that are marked with †. Rules of style, marked with ‡, begin
with the first revision [written with this library](reference.md#revision-files). `safe-migrations lint --explain RULE`
prints an entry of this page.

This page is written by `pdm run docs` from the rules in `src/safe_migrations/lint/`.

{rules}
## squawk's rules that are switched off

The list above includes rules of [squawk](https://squawkhq.com/docs/rules). A rule of squawk that is in neither list is
reported in squawk's words. These are switched off:

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
    mark = (" †" if rule.by_acknowledged else "") + (" ‡" if rule.is_style else "")
    return f"## {rule.name}{mark}\n\n{rule.why[0].upper()}{rule.why[1:]}.\n\nInstead:\n\n{code}\n"


if __name__ == "__main__":
    TARGET.write_text(page())
