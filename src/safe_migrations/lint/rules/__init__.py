"""The rules of lint: one module for each source of findings. Importing this package registers them."""

from safe_migrations.lint.registry import CHECKS, RULES
from safe_migrations.lint.rules import commands, history, locks, phases, source, squawk, types  # noqa: F401

__all__ = ["CHECKS", "RULES"]
