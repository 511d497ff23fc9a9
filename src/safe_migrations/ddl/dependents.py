"""What depends on tables, columns and constraints, such as views; and views that are dropped and created again.

See https://www.postgresql.org/docs/current/catalog-pg-depend.html
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

from alembic.operations import MigrateOperation, Operations
from sqlalchemy import Connection, Dialect

from safe_migrations.ddl.registration import register
from safe_migrations.postgres.sql import ddl, literal_sql, qualified, read_sql
from safe_migrations.printable import printable

_SQL = {name: statement.text for name, statement in read_sql(__package__, "dependents.sql").items()}


class Changed(NamedTuple):
    """An object that is dropped, or gets another type.

    Attributes:
        kind: `type` is a column that gets another type.
        schema: the table's; None for a table that is found without.
        table: its name.
        name: of the column or the constraint.
    """

    kind: Literal["table", "column", "constraint", "type"]
    schema: str | None
    table: str
    name: str | None = None


@dataclass(frozen=True)
class Dependent:
    """An object because of which PostgreSQL refuses a change.

    Attributes:
        name: with its kind and its schema, as PostgreSQL describes it.
        is_plain_view: whether it can be dropped and created again exactly as it was.
    """

    name: str
    is_plain_view: bool


def find_dependents(connection: Connection, changes: Sequence[Changed]) -> dict[Changed, list[Dependent]]:
    """What depends on each change, directly or through a view; what another change drops as well is no dependent."""
    dependents: dict[Changed, list[Dependent]] = {change: [] for change in changes}
    if changes:
        for row in connection.execute(ddl("%(query)s", query=_query(connection.dialect, changes))):
            name = printable(f"{row.type} {row.identity}")
            dependents[changes[row.number]].append(Dependent(name, row.is_plain_view))
    return dependents


@register
@dataclass(eq=False)
class DropDependentViewsOp(MigrateOperation):
    """DROP VIEW, for each view that depends on a column."""

    table_name: str
    column_name: str
    schema: str | None = None

    @classmethod
    def drop_dependent_views(
        cls, operations: Operations, table_name: str, column_name: str, *, schema: str | None = None
    ) -> None:
        """Drop the views that use a column before its type changes, until `recreate_dependent_views`.

        If anything else depends on the column or on these views, this fails and names it.

        Args:
            operations: given by Alembic.
            table_name: the table's name.
            column_name: the column's.
            schema: the table's.
        """
        operations.invoke(cls(table_name, column_name, schema))

    def run(self, operations: Operations) -> None:
        """Keep the definitions of the views, and drop the views."""
        dialect = operations.get_context().dialect
        query = _query(dialect, [Changed("type", self.schema, self.table_name, self.column_name)])
        tag = "drop_views"
        while tag in query:
            tag += "_"
        column = literal_sql(dialect, qualified(dialect, self.schema, self.table_name, self.column_name))
        operations.execute(ddl(_SQL["drop_dependent_views"], dependents=query, column=column, tag=tag))


@register
class RecreateDependentViewsOp(MigrateOperation):
    """CREATE VIEW, for each view that `drop_dependent_views` has dropped."""

    @classmethod
    def recreate_dependent_views(cls, operations: Operations) -> None:
        """Create the views again as they were, with their owners, options, privileges and comments."""
        operations.invoke(cls())

    def run(self, operations: Operations) -> None:
        """Create the views in the order in which they depend on each other."""
        operations.execute(ddl(_SQL["recreate_dependent_views"]))


def _query(dialect: Dialect, changes: Iterable[Changed]) -> str:
    quoted = partial(literal_sql, dialect)
    rows = (
        f"({number}, '{change.kind}', {quoted(qualified(dialect, change.schema, change.table))}::regclass, "
        f"{'NULL' if change.name is None else quoted(change.name)})"
        for number, change in enumerate(changes)
    )
    return _SQL["dependents"] % {"items": ", ".join(rows), "object": _SQL["object"]}
