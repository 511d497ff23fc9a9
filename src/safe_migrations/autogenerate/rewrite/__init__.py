"""The safe forms of the operations that autogenerate finds. Importing this package registers them."""

from typing import Any

from safe_migrations.autogenerate.comparison import Comparison
from safe_migrations.autogenerate.plan import Change, Changes, in_order
from safe_migrations.autogenerate.rewrite import (  # noqa: F401
    columns,
    comments,
    constraints,
    domains,
    enums,
    renames,
    schemas,
    tables,
    without_operation,
)
from safe_migrations.autogenerate.rewrite.dispatch import rewrite
from safe_migrations.autogenerate.rewrite.unreleased import at_once


def rewrite_all(comparison: Comparison) -> list[Change]:
    """The safe form of each operation, in the order in which the changes run."""
    changes = in_order(change for operation in comparison.operations for change in _safe_form(operation, comparison))
    changes = comments.with_comments_on_constraints(changes, comparison)
    return schemas.with_created_schemas(enums.with_created_and_dropped(changes, comparison), comparison)


def _safe_form(operation: Any, comparison: Comparison) -> Changes:
    plain = at_once(operation, comparison)
    return rewrite(operation, comparison) if plain is None else iter((plain,))
