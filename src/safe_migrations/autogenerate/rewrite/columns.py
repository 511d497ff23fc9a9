"""The safe form of a change of columns: no row is read or written under a lock that stops others."""

from dataclasses import replace
from typing import Any

from alembic.operations import MigrateOperation, ops
from sqlalchemy import Column
from sqlalchemy.sql.elements import conv

from safe_migrations.autogenerate.backfill_files import BackfillFile, backfill_name
from safe_migrations.autogenerate.comparison import Differences, alter, table_of
from safe_migrations.autogenerate.plan import Piece, Pieces, Stage
from safe_migrations.autogenerate.rewrite.constraints import in_two_steps
from safe_migrations.autogenerate.rewrite.defaults import change_default
from safe_migrations.autogenerate.rewrite.types import change_type
from safe_migrations.ddl.column_changes import default_text, is_identity, is_volatile, writes_rows
from safe_migrations.ddl.constraints import ValidateConstraintOp
from safe_migrations.ddl.indexes import LONGEST_NAME
from safe_migrations.postgres.sql import qualified
from safe_migrations.upgrade.phases import CONTRACT

_LITERALS = (str, int, float)  # with a form in Python that is theirs


def add_column(differences: Differences, operation: ops.AddColumnOp) -> Pieces:
    """Add a column without writing a row.

    Args:
        differences: all of them.
        operation: what Alembic would do.
    """
    table, column, name = table_of(operation), operation.column, operation.column.name
    default = default_text(differences.connection, column)
    plain = operation if writes_rows(column) else _add(operation, column.nullable, column.server_default)
    piece = Piece(
        Stage.COLUMNS,
        table,
        f"add {table}.{name}",
        "A new column takes a moment: no row is written, and the code that runs does not see it.",
        (plain,),
        (operation.reverse(),),
    )
    if writes_rows(column):
        danger = f"{table} is written anew while nobody can read or write it, to compute {name} for each row"
        yield replace(piece, comment="Each row is written anew, under ACCESS EXCLUSIVE.", danger=danger, alone=True)
        return
    volatile = default is not None and is_volatile(differences.connection, default)
    alike = differences.alike(table, column)
    needs_value = not column.nullable and (default is None or volatile)
    if needs_value or volatile:
        comment = "Added empty, because a value for each row would write the table anew, while nobody can use it."
        piece = replace(piece, comment=comment, upgrade=(_add(operation, True, None),))
    if volatile:
        set_default = alter(operation, modify_server_default=column.server_default)
        piece = replace(piece, upgrade=(*piece.upgrade, set_default), title=f"{piece.title} with its default")
    backfill = None
    if needs_value or volatile or alike:
        backfill = _backfill(differences, operation, column, alike, default if volatile else None)
    candidates = differences.candidates(table, column)
    yield replace(piece, **_renamed_column(candidates, operation, backfill)) if candidates else piece
    if needs_value:
        yield from _set_not_null(differences, operation, column, backfill)


def _add(operation: ops.AddColumnOp, nullable: bool | None, default: Any) -> ops.AddColumnOp:
    """Add the column alone: its indexes and foreign keys are operations of their own."""
    given = operation.column
    column = Column(given.name, given.type, nullable=nullable, server_default=default, comment=given.comment)
    return ops.AddColumnOp(operation.table_name, column, schema=operation.schema)


def _backfill(
    differences: Differences, operation: MigrateOperation, column: Column[Any], alike: str | None, default: str | None
) -> BackfillFile | None:
    """The file that fills a column; none for a table without a primary key."""
    table = differences.tables[column.table.key]
    key = tuple(each.name for each in table.primary_key)
    if not key or column.name in key:
        return None
    value, where = None, f"rows.c[{column.name!r}].is_(None)"
    reason = f"{table_of(operation)}.{column.name} gets a value in each row that has none."
    if alike is not None:
        value, old = f"rows.c[{alike!r}]", f"rows.c[{alike!r}]"
        if column.server_default is not None:  # which rows have already
            where = f"rows.c[{column.name!r}].is_distinct_from({old}) & {old}.is_not(None)"
            reason = f"{table_of(operation)}.{column.name} gets what {alike} is, in place of its default."
        elif column.nullable:
            where += f" & {old}.is_not(None)"
    elif default is not None:
        value = f"sa.literal_column({default!r})"
    elif isinstance(own := getattr(column.default, "arg", None), _LITERALS):
        value = f"sa.literal({own!r})"
    file = BackfillFile(table.name, table.schema, key, column.name, value, where, reason, alike)
    differences.backfills.append(file)
    return file


def _set_not_null(
    differences: Differences, operation: Any, column: Column[Any], backfill: BackfillFile | None
) -> Pieces:
    table, name = table_of(operation), column.name
    check = conv(f"ck_{operation.table_name}_{name}_not_null"[:LONGEST_NAME])
    quoted = qualified(differences.connection.dialect, name).replace(":", r"\:")
    create = ops.CreateCheckConstraintOp(
        check,
        operation.table_name,
        f"{quoted} IS NOT NULL",
        schema=operation.schema,
        postgresql_not_valid=True,
    )
    drop = ops.DropConstraintOp(check, operation.table_name, type_="check", schema=operation.schema)
    validate = ValidateConstraintOp(check, operation.table_name, operation.schema)
    subject = f"{table}.{name} not null"
    rows_to_come = Piece(
        Stage.NOT_VALID,
        table,
        subject,
        "",
        (create,),
        (drop,),
        phase=CONTRACT,
        backfill=backfill.name if backfill else None,
        danger=None if backfill else f"{table} has no primary key for a backfill: fill {name} in all rows before",
    )
    yield from in_two_steps(rows_to_come, validate, table, (drop, create))
    yield Piece(
        Stage.ENFORCE,
        table,
        subject,
        "The valid CHECK spares SET NOT NULL its scan. Validating is nothing now; after a downgrade it scans here, "
        "before the strong lock.",
        (validate, alter(operation, modify_nullable=False), drop),
        (create, alter(operation, modify_nullable=True)),
        phase=CONTRACT,
        alone=True,
    )


def drop_column(differences: Differences, operation: ops.DropColumnOp) -> Pieces:
    """Drop a column, when nobody uses it any more.

    Args:
        differences: all of them.
        operation: what Alembic would do.
    """
    table, name = table_of(operation), operation.column_name
    column = differences.removed[table, name]
    restored: MigrateOperation = operation.reverse()
    fill = ""
    if not column.nullable and column.server_default is None and column.identity is None:
        yield _may_be_null(operation, "The new code does not know the column, so its rows have no value there.")
        empty = Column(name, column.type, nullable=True, comment=column.comment)
        restored = ops.AddColumnOp(operation.table_name, empty, schema=operation.schema)
        fill = " Fill it before the column is made NOT NULL again, which the next downgrade does."
    heirs = [
        new for (of, new), each in differences.added.items() if of == table and differences.alike(of, each) == name
    ]
    yield Piece(
        Stage.DROP_COLUMNS,
        table,
        f"drop {table}.{name}",
        "The column goes with its data, when no code uses it any more.",
        (operation,),
        (restored,),
        f"The column comes back; its data is gone.{fill}",
        CONTRACT,
        danger=f"the column {table}.{name} and its data are lost",
        backfill=backfill_name(operation.schema, operation.table_name, heirs[0]) if heirs else None,
    )


def _may_be_null(operation: ops.DropColumnOp | ops.AlterColumnOp, comment: str) -> Piece:
    table, name = table_of(operation), operation.column_name
    return Piece(
        Stage.COLUMNS,
        table,
        f"{table}.{name} may be null",
        comment,
        (alter(operation, modify_nullable=True),),
        (alter(operation, modify_nullable=False),),
        f"Rows without a value have to get one before: UPDATE {table} …",
    )


def alter_column(differences: Differences, operation: ops.AlterColumnOp) -> Pieces:
    """Change type, default, comment, and whether it may be null, each as it is safe.

    Args:
        differences: all of them.
        operation: what Alembic would do.
    """
    table, name = table_of(operation), operation.column_name
    converted = (table, name) in differences.converted
    if operation.modify_type is not None:
        yield change_type(differences, operation)
    if operation.modify_nullable is True:
        yield _may_be_null(operation, "It takes a moment, and comes first: the new code may leave the column empty.")
    if operation.modify_server_default is not False and (not converted or is_identity(operation.modify_server_default)):
        yield change_default(differences, operation)
    if operation.modify_comment is not False:
        comments = operation.modify_comment, operation.existing_comment
        upgrade, downgrade = (alter(operation, modify_comment=comment) for comment in comments)
        title = f"comment on {table}.{name}"
        yield Piece(Stage.COLUMNS, table, title, "A comment takes a moment.", (upgrade,), (downgrade,))
    if operation.modify_nullable is False:
        column = differences.model(operation).c[name]
        default = default_text(differences.connection, column)
        yield from _set_not_null(
            differences, operation, column, _backfill(differences, operation, column, None, default)
        )


def _renamed_column(candidates: list[str], operation: ops.AddColumnOp, backfill: BackfillFile | None) -> dict[str, Any]:
    table, after = table_of(operation), operation.column.name
    schema = f", schema={operation.schema!r}" if operation.schema else ""
    rename = f'op.alter_column("{operation.table_name}", "{candidates[0]}", new_column_name="{after}"{schema})'
    copies = "the values are copied by a backfill"
    if backfill is not None:
        file = f"alembic/backfills/{backfill.name}.py"
        copies = f"{file} copies the values" if backfill.source else f"write into {file} which values it copies"
    going = ", ".join(f"{table}.{name}" for name in candidates)
    return {
        "stage": Stage.RENAMES,
        "alone": True,
        "question": (
            f"{table}.{after} comes, and what goes is of the same type ({going}): is it a rename?",
            f"- Yes, and no code that runs uses it: put {rename} here,",
            "  with `safe: contract-in-expand because no code uses it` in a comment above, and the other way round in",
            "  downgrade(); delete the files of this change that come after this one, and the backfill; then",
            "  correct the message; migrate-rebase corrects HEAD; migrate-upgrade, and migrate-revision for the rest.",
            f"- Yes, and code uses it: keep this; {copies}. Until the old column goes, the new code has to write",
            "  both, or the backfill overwrites what it has written.",
            "- No: correct the backfill, or delete it together with each requires_backfill that names it.",
        ),
        "danger": f"{going} will be dropped in this series, and {table}.{after} has only what is copied",
    }
