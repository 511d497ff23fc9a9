"""The safe form of indexes and constraints: built and checked while others read and write."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from alembic.operations import MigrateOperation, ops
from sqlalchemy.sql.elements import conv

from safe_migrations.autogenerate.comparison import Differences, name_of, names_of, table_of
from safe_migrations.autogenerate.plan import Piece, Pieces, Stage
from safe_migrations.autogenerate.rendering import Comment
from safe_migrations.ddl.constraints import CreateUniqueConstraintUsingIndexOp, ValidateConstraintOp
from safe_migrations.ddl.indexes import LONGEST_NAME, CreateIndexConcurrentlyOp, DropIndexConcurrentlyOp
from safe_migrations.postgres.sql import qualified
from safe_migrations.upgrade.phases import CONTRACT, EXPAND


def create_index(differences: Differences, operation: ops.CreateIndexOp) -> Pieces:
    """Build an index while others write.

    Args:
        differences: all of them.
        operation: what Alembic would do.
    """
    if table_of(operation) in differences.created:
        return
    if (old := differences.replaced.get(name_of(operation))) is not None:
        yield from _replace_index(differences, operation, old.reverse())
        return
    yield Piece(
        Stage.INDEXES,
        table_of(operation),
        f"index {operation.index_name}",
        "CONCURRENTLY, so that others write the table while the index is built; alone, because that needs no "
        "transaction.",
        (_build(operation),),
        (_remove(operation),),
        phase=differences.building(operation, operation.to_index().columns),
        alone=True,
    )


def _replace_index(differences: Differences, new: ops.CreateIndexOp, old: ops.CreateIndexOp) -> Pieces:
    """Under another name first, so that there is always one."""
    table, name = table_of(new), str(new.index_name)
    temporary = conv(f"{name[: LONGEST_NAME - 4]}_new")
    previous = conv(f"{name[: LONGEST_NAME - 4]}_old")
    yield Piece(
        Stage.INDEXES,
        table,
        f"index {temporary}",
        f"CONCURRENTLY, and beside the {name} that it replaces.",
        (_build(new, temporary),),
        (_remove(new, temporary),),
        phase=differences.building(new, new.to_index().columns),
        alone=True,
    )
    yield Piece(
        Stage.DROP_CONSTRAINTS,
        table,
        f"{name} replaced",
        "The new index takes the old one's name.",
        (_remove(old), *_rename_index(differences, new, temporary, name)),
        (
            _build(old, previous),
            *_rename_index(differences, new, name, temporary),
            *_rename_index(differences, new, previous, name),
        ),
        phase=EXPAND if old.unique else CONTRACT,
        alone=True,
    )


def _rename_index(
    differences: Differences, operation: ops.CreateIndexOp, before: str, after: str
) -> tuple[MigrateOperation, ...]:
    dialect = differences.connection.dialect
    index = qualified(dialect, operation.schema, before)
    rename = ops.ExecuteSQLOp(f"ALTER INDEX {index} RENAME TO {qualified(dialect, after)}")
    return Comment("Alembic has no operation that renames an index."), rename


def drop_index(differences: Differences, operation: ops.DropIndexOp) -> Pieces:
    """Drop an index while others read and write.

    Args:
        differences: all of them.
        operation: what Alembic would do.
    """
    if table_of(operation) in differences.dropped or name_of(operation) in differences.replaced:
        return
    index = operation.reverse()
    relaxes = index.unique and not _has_successor(differences, index)
    phase = differences.relaxing(operation, index.to_index().columns.keys()) if relaxes else CONTRACT
    yield Piece(
        Stage.UNIQUE if phase == EXPAND else Stage.DROP_CONSTRAINTS,
        table_of(operation),
        f"drop index {operation.index_name}",
        "CONCURRENTLY, so that nobody waits."
        + ("" if phase == EXPAND else " The code that runs may still need it, so it goes afterwards."),
        (_remove(index),),
        (_build(index),),
        phase=phase,
        alone=True,
        danger=_without_unique(index.columns, operation.index_name) if phase == EXPAND else None,
    )


def create_unique(differences: Differences, operation: ops.CreateUniqueConstraintOp) -> Pieces:
    """Build the index first, then make it a constraint.

    Args:
        differences: all of them.
        operation: what Alembic would do.
    """
    old = differences.replaced.get(name_of(operation))
    yield Piece(
        Stage.UNIQUE,
        table_of(operation),
        f"unique {operation.constraint_name}",
        "Others write while the index is built CONCURRENTLY; the constraint then takes it over in a moment, and "
        "duplicates fail. It comes as early as it can, because the new code may rely on it (ON CONFLICT).",
        _unique(operation, old.reverse() if old is not None else None),
        _unique(old.reverse(), operation) if old is not None else (operation.reverse(),),
        phase=differences.building(operation, operation.to_constraint().columns),
        alone=True,
    )


def create_constraint(
    differences: Differences, operation: ops.CreateForeignKeyOp | ops.CreateCheckConstraintOp
) -> Pieces:
    """Check rows to come first, then those that are there.

    Args:
        differences: all of them.
        operation: what Alembic would do.
    """
    table, name = table_of(operation), conv(str(operation.constraint_name))
    old = differences.replaced.get(name_of(operation))
    create, drop = _not_valid(operation), operation.reverse()
    columns = operation.local_cols if isinstance(operation, ops.CreateForeignKeyOp) else []
    new = table in differences.created or (
        bool(columns) and all((table, column) in differences.added for column in columns)
    )
    phase = EXPAND if new and old is None else CONTRACT
    referred = operation.referent_table if isinstance(operation, ops.CreateForeignKeyOp) else ""
    locks = f"{table} {referred}" if referred not in ("", names_of(operation)[0]) else table
    rows_to_come = Piece(
        Stage.NOT_VALID,
        locks,
        str(name),
        "" if new else "The code that runs may still write what it forbids, so it comes afterwards.",
        (old, create) if old is not None else (create,),
        (drop, old.reverse()) if old is not None else (drop,),
        phase=phase,
    )
    yield from in_two_steps(rows_to_come, ValidateConstraintOp(name, *names_of(operation)), table, (drop, create))


def in_two_steps(
    first: Piece, validate: ValidateConstraintOp, table: str, again: tuple[MigrateOperation, ...]
) -> Pieces:
    """A constraint for rows to come, and for those that are there in a transaction of its own.

    Args:
        first: adds it NOT VALID; its title is the constraint's, its comment what there is to say besides.
        validate: checks the rows that are there.
        table: the one that they are in.
        again: makes the constraint not valid once more.
    """
    yield replace(
        first,
        title=f"{first.title}, for new rows",
        comment="NOT VALID: only what is written from now on is checked, so no row is read under the lock."
        + (f" {first.comment}" if first.comment else ""),
    )
    yield Piece(
        Stage.VALIDATE,
        table,
        f"{first.title}, for all rows",
        "Reads all rows while others read and write; in a transaction of its own, so no stronger lock is held.",
        (validate,),
        again,
        "Not valid again: PostgreSQL can't take a validation back otherwise.",
        phase=first.phase,
    )


def drop_constraint(differences: Differences, operation: ops.DropConstraintOp) -> Pieces:
    """Drop a rule, in the phase in which nobody needs it.

    Args:
        differences: all of them.
        operation: what Alembic would do.
    """
    if name_of(operation) in differences.replaced:
        return
    create: Any = operation.reverse()
    unique = isinstance(create, ops.CreateUniqueConstraintOp)
    columns = create.to_constraint().columns.keys()
    phase = CONTRACT if _has_successor(differences, create) else differences.relaxing(operation, columns)
    yield Piece(
        (Stage.UNIQUE if unique else Stage.COLUMNS) if phase == EXPAND else Stage.DROP_CONSTRAINTS,
        table_of(operation),
        f"drop {operation.constraint_name}",
        "It takes a moment, and comes "
        + ("first: the new code may write what it forbids." if phase == EXPAND else "when no code needs it any more."),
        (operation,),
        _unique(create, None) if unique else (create,),
        phase=phase,
        alone=unique,
        danger=_without_unique(create.columns, operation.constraint_name) if unique and phase == EXPAND else None,
    )


def _has_successor(differences: Differences, old: Any) -> bool:
    """Whether another rule of this kind comes for the same columns: then the old one stays until that one holds."""
    if isinstance(old, ops.CreateForeignKeyOp):
        new = [each for each in differences.of(ops.CreateForeignKeyOp) if each.local_cols[0] == old.local_cols[0]]
    elif isinstance(old, (ops.CreateUniqueConstraintOp, ops.CreateIndexOp)):
        kinds = differences.of(ops.CreateUniqueConstraintOp, ops.CreateIndexOp)
        new = [each for each in kinds if _unique_columns(each) == _unique_columns(old)]
    else:
        return False
    return any(table_of(each) == table_of(old) for each in new)


def _unique_columns(operation: Any) -> list[str] | None:
    if isinstance(operation, ops.CreateIndexOp):
        return list(operation.to_index().columns.keys()) if operation.unique else None
    return list(operation.columns)


def _without_unique(columns: Iterable[Any], name: Any) -> str:
    names = ", ".join(str(getattr(each, "name", each)) for each in columns)
    return f"nothing forbids duplicates of {names} any more, and INSERT … ON CONFLICT ({names}) fails without {name}"


def _build(index: ops.CreateIndexOp, name: str | None = None) -> CreateIndexConcurrentlyOp:
    options = {"columns": list(index.columns), "unique": index.unique, **index.kw}
    return CreateIndexConcurrentlyOp(conv(name or str(index.index_name)), index.table_name, index.schema, **options)


def _remove(index: ops.CreateIndexOp, name: str | None = None) -> DropIndexConcurrentlyOp:
    return DropIndexConcurrentlyOp(conv(name or str(index.index_name)), index.table_name, index.schema)


def _unique(new: Any, old: Any | None) -> tuple[MigrateOperation, ...]:
    """Operations that make a unique constraint, in the place of another one or not."""
    name = str(new.constraint_name)
    index_name = name if old is None else f"{name[: LONGEST_NAME - 4]}_new"
    options = {key: value for key, value in new.kw.items() if key.startswith("postgresql_") and value}
    index = ops.CreateIndexOp(index_name, new.table_name, new.columns, schema=new.schema, unique=True, **options)
    deferring = {"deferrable": new.kw.get("deferrable"), "initially": new.kw.get("initially")}
    attach = CreateUniqueConstraintUsingIndexOp(name, new.table_name, new.schema, index_name=index_name, **deferring)
    drop = () if old is None else (ops.DropConstraintOp(conv(name), old.table_name, "unique", schema=old.schema),)
    return _build(index), *drop, attach


def _not_valid(operation: Any) -> Any:
    """The same foreign key or check, which rows that are there already need not meet."""
    keyword = {**operation.kw, "postgresql_not_valid": True}
    name = conv(str(operation.constraint_name))
    if isinstance(operation, ops.CreateForeignKeyOp):
        tables = operation.source_table, operation.referent_table
        return ops.CreateForeignKeyOp(name, *tables, operation.local_cols, operation.remote_cols, **keyword)
    return ops.CreateCheckConstraintOp(
        name, operation.table_name, operation.condition, schema=operation.schema, **keyword
    )
