"""What is prepared in the models before they are compared: names as PostgreSQL stores them, references in cycles."""

from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Constraint, Index, Table
from sqlalchemy.schema import sort_tables_and_constraints
from sqlalchemy.sql.elements import conv

from safe_migrations.errors import MigrationError
from safe_migrations.postgres.sql import LONGEST_NAME, short_name


def prepare(context: AutogenContext) -> None:
    """Shorten names of the naming convention, and let foreign keys that form a cycle follow their tables.

    Args:
        context: with the models.

    Raises:
        MigrationError: PostgreSQL would cut off a name that the models spell out.
    """
    tables = list(context.table_key_to_table.values())
    for table in tables:
        _shorten_names(table)
    _, late = sort_tables_and_constraints(tables)[-1]  # type: ignore[no-untyped-call]  # SQLAlchemy has left it so
    in_cycles = {key.table for key in late}
    for key in late:
        key.use_alter |= key.referred_table is not key.table and key.referred_table in in_cycles


def _shorten_names(table: Table) -> None:
    items: list[Constraint | Index] = [*table.constraints, *table.indexes]
    for item in items:
        if isinstance(item.name, conv):
            item.name = conv(short_name(item.name))
    for name in (table.name, *(column.name for column in table.columns), *(item.name for item in items)):
        if isinstance(name, str) and (length := len(name.encode())) > LONGEST_NAME:
            raise MigrationError(
                f"In the models, the table {table.fullname} has the name {name}, of {length} bytes: PostgreSQL cuts "
                f"off what follows {LONGEST_NAME} bytes. Shorten this name."
            )
