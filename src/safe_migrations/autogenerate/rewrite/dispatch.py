"""The safe form of each change that autogenerate finds: what others can read and write beside, in which phase.

Learned from strong_migrations (https://github.com/ankane/strong_migrations), which tells the safe form of each change,
and pgroll (https://github.com/xataio/pgroll), which runs them. Tables that the same change creates need none of this.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from alembic.operations import MigrateOperation, ops

from safe_migrations.autogenerate.comparison import Differences, table_of
from safe_migrations.autogenerate.enum_changes import CREATED, DROPPED, REPLACED, EnumChange, EnumChangeOp
from safe_migrations.autogenerate.enum_types import enum_of
from safe_migrations.autogenerate.plan import Piece, Pieces, Stage, in_order
from safe_migrations.autogenerate.rewrite import columns as column_forms
from safe_migrations.autogenerate.rewrite import constraints as constraint_forms
from safe_migrations.autogenerate.rewrite import tables as table_forms
from safe_migrations.upgrade.phases import CONTRACT, EXPAND


def safe_pieces(differences: Differences) -> list[Piece]:
    """The safe form of each difference.

    Args:
        differences: all of them; it is given the backfills that are needed.
    """
    pieces = in_order(piece for operation in differences.operations for piece in _safe_form(differences, operation))
    for change in (each.change for each in differences.of(EnumChangeOp)):
        if change.kind in (CREATED, DROPPED):
            _beside_its_column(pieces, change)
    return pieces


def _safe_form(differences: Differences, operation: MigrateOperation) -> Pieces:
    forms: tuple[tuple[type[MigrateOperation], Callable[[Differences, Any], Pieces]], ...] = (
        (ops.CreateTableOp, table_forms.create_table),
        (ops.DropTableOp, table_forms.drop_table),
        (ops.AddColumnOp, column_forms.add_column),
        (ops.DropColumnOp, column_forms.drop_column),
        (ops.AlterColumnOp, column_forms.alter_column),
        (ops.CreateIndexOp, constraint_forms.create_index),
        (ops.DropIndexOp, constraint_forms.drop_index),
        (ops.CreateUniqueConstraintOp, constraint_forms.create_unique),
        (ops.AddConstraintOp, constraint_forms.create_constraint),
        (ops.DropConstraintOp, constraint_forms.drop_constraint),
        (EnumChangeOp, _change_enum),
        (MigrateOperation, _as_it_is),
    )
    return next(form for kind, form in forms if isinstance(operation, kind))(differences, operation)


def _as_it_is(_differences: Differences, operation: Any) -> Pieces:
    """A change that takes a moment, such as a comment's."""
    table = table_of(operation)
    comments = (ops.CreateTableCommentOp, ops.DropTableCommentOp)
    title = f"{'comment on' if isinstance(operation, comments) else 'change'} {table}"
    comment = "It takes a moment: no row is read or written."
    yield Piece(Stage.COLUMNS, table, title, comment, (operation,), (operation.reverse(),))


def _change_enum(_differences: Differences, operation: EnumChangeOp) -> Pieces:
    change = operation.change
    if change.kind in (CREATED, DROPPED):
        return  # they stand beside the columns
    replaced = change.kind == REPLACED
    yield Piece(
        Stage.REPLACE_ENUMS if replaced else Stage.ENUMS,
        f"enum {change.name}",
        f"values of {change.name}",
        change.comment,
        tuple(change.upgrade),
        tuple(change.downgrade),
        "\n".join(change.downgrade_comment),
        CONTRACT if replaced else EXPAND,
        alone=True,
        danger=change.acknowledged,
    )


def _beside_its_column(pieces: list[Piece], change: EnumChange) -> None:
    """Create an enum where its first column comes, and drop it where its last one goes."""
    created = change.kind == CREATED
    places = [
        index for index, piece in enumerate(pieces) if _names(piece.upgrade if created else piece.downgrade, change)
    ]
    place = places[0] if created else places[-1]
    piece = replace(
        pieces[place],
        title=f"{'create' if created else 'drop'} enum {change.name}",
        comment=change.comment,
        upgrade=tuple(change.upgrade),
        downgrade=tuple(change.downgrade),
        downgrade_comment="\n".join(change.downgrade_comment),
        danger=None,
        question=(),
        backfill=None,
    )
    pieces.insert(place + (0 if created else 1), piece)


def _names(operations: Iterable[MigrateOperation], change: EnumChange) -> bool:
    """Whether a column comes with these operations that is of this enum."""
    types: list[Any] = []
    for operation in operations:
        match operation:
            case ops.CreateTableOp():
                types += [column.type for column in operation.to_table().columns]
            case ops.AddColumnOp():
                types.append(operation.column.type)
            case ops.AlterColumnOp() if operation.modify_type is not None:
                types.append(operation.modify_type)
    enums = [enum for each in types if (enum := enum_of(each)) is not None]
    return any(enum.name == change.name and enum.schema in (change.schema, None) for enum in enums)
