"""Changes of domains: the author writes them, because PostgreSQL checks all rows of all tables while writes wait."""

import shlex

from safe_migrations.autogenerate.comparison import Comparison
from safe_migrations.autogenerate.domain_comparison import CHANGED, DomainChange
from safe_migrations.autogenerate.plan import Changes
from safe_migrations.autogenerate.rewrite.dispatch import rewrite
from safe_migrations.errors import MigrationError


@rewrite.register
def change_domain(domain: DomainChange, _comparison: Comparison) -> Changes:
    """Refuse a change, with its statements; a domain is created and dropped beside its columns."""
    if domain.kind == CHANGED:
        statements = "\n".join(domain.statements)
        command = f"alembic revision -m {shlex.quote(f'change the domain {domain.name}')}"
        raise MigrationError(
            f"The models change the domain {domain.name}. Autogenerate does not write this change: for a new check or "
            "NOT NULL, PostgreSQL reads all rows of each table that uses the domain, and writes to these tables wait. "
            f"Write a revision with these statements in upgrade(), and with their reverse in downgrade():\n{statements}"
            f"\nTo create the file of the revision:\n{command}"
        )
    yield from ()
