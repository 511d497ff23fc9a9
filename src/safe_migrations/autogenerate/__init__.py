"""From the differences between models and database to revisions that are safe to run.

`script.py.mako` imports the two functions.
"""

from safe_migrations.autogenerate.script import declarations, without_banner

__all__ = ["declarations", "without_banner"]
