"""The rules of lint, together.

To add one: a function under `@rule`, in the module of its kind; its unsafe and its safe form in the template's tests;
`pdm run docs`, which writes the page docs/rules.md from this table.
"""

from safe_migrations.lint import code_rules, file_rules, table_rules  # noqa: F401  # each puts its own into the table
from safe_migrations.lint.rule_table import CHECKS, RULES, broken

__all__ = ["CHECKS", "RULES", "broken"]
