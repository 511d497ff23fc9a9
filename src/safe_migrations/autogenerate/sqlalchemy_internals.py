"""What is read of models beyond what SQLAlchemy documents; a test fails where SQLAlchemy changes it."""

from typing import Any

from sqlalchemy import CheckConstraint, MetaData, Sequence
from sqlalchemy.types import TypeEngine

from safe_migrations.ddl.column_changes import DIALECT


def sequences_of(metadata: MetaData) -> list[Sequence]:
    """The sequences that `create_all` would create."""
    return [sequence for _, sequence in sorted(metadata._sequences.items()) if not sequence.optional]


def variants_of(type_: TypeEngine[Any]) -> list[TypeEngine[Any]]:
    """The other types of a type for other databases, by `with_variant`."""
    return list(type_._variant_mapping.values())


def is_created(check: CheckConstraint) -> bool:
    """Whether PostgreSQL gets a check: not that of `create_constraint=True` where PostgreSQL has such a type itself."""
    rule: Any = check._create_rule
    compiler: Any = DIALECT.ddl_compiler
    return rule is None or bool(rule(compiler(DIALECT, None)))
