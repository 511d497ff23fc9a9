"""Changes of domains: the author writes them, because PostgreSQL checks all rows of all tables while writes wait."""

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
        raise MigrationError(
            f"The models change the domain {domain.name}. Autogenerate does not write this change: for a new check or "
            "NOT NULL, PostgreSQL reads all rows of each table that uses the domain, and writes to these tables wait. "
            f"Write a revision with these statements in upgrade(), and with their reverse in downgrade():\n{statements}"
            f'\nThe next command creates its file:\nalembic revision -m "change the domain {domain.name}"'
        )
    yield from ()
