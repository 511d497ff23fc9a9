"""What a unique index, a unique constraint or a foreign key guarantees, and whether another one guarantees the same."""

from collections.abc import Iterable
from typing import Any

from alembic.operations import ops
from sqlalchemy import ColumnClause

from safe_migrations.autogenerate.comparison import Comparison, name_of, table_of
from safe_migrations.autogenerate.description_comparison import PREDICATES


def has_successor(comparison: Comparison, old: Any) -> bool:
    """Whether a new constraint guarantees all that this one does; the old one is then dropped after it is valid."""
    kinds = ops.CreateForeignKeyOp, ops.CreateUniqueConstraintOp, ops.CreateIndexOp
    return any(_guarantees(new, old) for new in comparison.of(*kinds) if table_of(new) == table_of(old))


def _guarantees(new: Any, old: Any) -> bool:
    """Whether rows that satisfy the new constraint satisfy the old one, at the same moment."""
    if isinstance(new, ops.CreateForeignKeyOp) and isinstance(old, ops.CreateForeignKeyOp):
        return _reference(new) == _reference(old) and not _is_deferrable(new, old)
    if not (is_unique(new) and is_unique(old)) or _is_deferrable(new, old):
        return False
    predicate, old_predicate = new.info.get(PREDICATES) or (_predicate(new), _predicate(old))
    return (
        _unique_columns(new) == _unique_columns(old)
        and predicate in ("", old_predicate)
        and _option(new, "ops") == _option(old, "ops")
        and (_option(new, "nulls_not_distinct") or not _option(old, "nulls_not_distinct"))
    )


def _reference(key: ops.CreateForeignKeyOp) -> tuple[object, ...]:
    match = str(key.kw.get("match") or "SIMPLE").upper()
    columns = sorted(zip(key.local_cols, key.remote_cols, strict=True))
    return columns, key.referent_table, key.kw.get("referent_schema"), match


def _is_deferrable(new: Any, old: Any) -> bool:
    """Whether the new constraint may be checked later than the old one."""
    return bool(new.kw.get("deferrable")) and not old.kw.get("deferrable")


def is_unique(operation: Any) -> bool:
    return isinstance(operation, ops.CreateUniqueConstraintOp) or bool(getattr(operation, "unique", False))


def _unique_columns(operation: Any) -> set[str]:
    """The columns and expressions; their order does not matter to uniqueness."""
    is_index = isinstance(operation, ops.CreateIndexOp)
    parts = operation.to_index().expressions if is_index else operation.columns
    return {part.name if isinstance(part, ColumnClause) else str(part) for part in parts}


def _predicate(operation: Any) -> str:
    predicate = operation.kw.get("postgresql_where")
    return "" if predicate is None else str(predicate)


def _option(operation: Any, name: str) -> Any:
    return operation.kw.get(f"postgresql_{name}") or None


def without_unique(columns: Iterable[Any], name: Any) -> str:
    names = ", ".join(str(getattr(column, "name", column)) for column in columns)
    return f"nothing prevents duplicates of {names} any more, and INSERT … ON CONFLICT ({names}) fails without {name}"


def danger_of_replacing(new: Any, old: Any | None) -> str | None:
    """What the new form of a unique index or constraint no longer guarantees."""
    if old is None or not is_unique(old) or _guarantees(new, old):
        return None
    return without_unique(old.columns, name_of(old)[1])
