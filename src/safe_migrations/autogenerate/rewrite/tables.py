"""The safe form of tables that come and go."""

from dataclasses import replace
from typing import Any

from alembic.operations import ops
from sqlalchemy import ForeignKeyConstraint

from safe_migrations.autogenerate.comparison import Differences, referred, shape, table_of
from safe_migrations.autogenerate.plan import Piece, Pieces, Stage
from safe_migrations.autogenerate.rewrite.constraints import create_constraint
from safe_migrations.upgrade.phases import CONTRACT


def create_table(differences: Differences, operation: ops.CreateTableOp) -> Pieces:
    """Create a table with its indexes, together with the new tables that it refers to.

    Args:
        differences: all of them.
        operation: what Alembic would do.
    """
    name = table_of(operation)
    later = [each for each in operation.columns if isinstance(each, ForeignKeyConstraint) and each.use_alter]
    operation.columns = [each for each in operation.columns if not any(each is other for other in later)]
    for constraint in later:  # of tables that refer to each other: it comes when both are there
        create = ops.CreateForeignKeyOp.from_constraint(constraint)
        create.kw.pop("use_alter", None)
        yield from create_constraint(differences, create)
    indexes = [each for each in differences.of(ops.CreateIndexOp) if table_of(each) == name]
    used = referred(operation.to_table()) - differences.created.keys()
    piece = Piece(
        Stage.TABLES,
        differences.related(name),
        f"create {name}",
        "A new table: nobody waits for its locks."
        + (f" {', '.join(sorted(used))} can't be written for the moment that the foreign key takes." if used else ""),
        (operation, *indexes),
        (operation.reverse(),),
    )
    alike = [dropped for dropped, each in differences.dropped.items() if shape(each) == shape(operation)]
    yield replace(piece, **_renamed_table(alike[0], operation)) if len(alike) == 1 else piece


def drop_table(differences: Differences, operation: ops.DropTableOp) -> Pieces:
    """Drop a table, when nobody uses it any more.

    Args:
        differences: all of them.
        operation: what Alembic would do.
    """
    name = table_of(operation)
    indexes = [each.reverse() for each in differences.of(ops.DropIndexOp) if table_of(each) == name]
    yield Piece(
        Stage.DROP_TABLES,
        name,
        f"drop {name}",
        "The table goes with its rows, when no code uses it any more.",
        (operation,),
        (operation.reverse(), *indexes),
        "The structure comes back; the rows are gone.",
        CONTRACT,
        danger=f"the table {name} and its rows are lost",
    )


def _renamed_table(old: str, operation: ops.CreateTableOp) -> dict[str, Any]:
    new = table_of(operation)
    schema = f", schema={operation.schema!r}" if operation.schema else ""
    rename = f'op.rename_table("{old.rpartition(".")[2]}", "{operation.table_name}"{schema})'
    return {
        "question": (
            f"{old} goes and {new} comes, with the same columns: is it a rename?",
            f"- Yes, and no code that runs uses it: put {rename} here,",
            "  with `safe: contract-in-expand because no code uses it` in a comment above, and the other way round in",
            "  downgrade(); delete the files of this change that come after this one; then",
            "  migrate-rebase, which corrects HEAD, migrate-upgrade, and migrate-revision for what is left.",
            "- Yes, and code uses it: keep this, let the new code write both, and copy the rows (INSERT … SELECT, some",
            "  thousand at a time) before the old table goes.",
            "- No: nothing is to be done.",
        ),
        "danger": f"the table {old} is dropped at the end of this series, and {new} begins empty",
    }
