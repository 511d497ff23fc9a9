"""The objects that only the baseline has, because models can't describe them."""

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection

from safe_migrations.adopt.models import Models
from safe_migrations.autogenerate.ownership import read_owners
from safe_migrations.postgres.sql import qualified, read_sql

_TABLES = {"partitions": "partition", "children": "inheriting table"}
_SQL = read_sql(__package__, "left_out.sql")


def not_in_models(connection: Connection, schemas: Sequence[str] | None = None) -> list[str]:
    """What `write_models` leaves out, because SQLAlchemy can't describe it.

    Args:
        schemas: as `write_models` takes them.

    Returns:
        A line for each object or part of a table: its kind, and its name with the schema, such as
        `view public.report` or `trigger audit on public.account`.
    """
    models = Models(connection, schemas)
    return sorted({f"{kind} {name}" for kind, name in _left_out(connection, models)})


def _left_out(connection: Connection, models: Models) -> Iterator[tuple[str, str]]:
    parameters = {"schemas": models.schemas}
    tables = {(rows.table.schema, rows.table.name) for rows in models.tables}
    for row in connection.execute(_SQL["objects"], parameters):
        yield row.kind, row.name
    for name, owner in read_owners(connection).items():
        kind = str(owner).partition(" of ")[0]
        if name[0] in models.schemas and name not in tables and not kind.startswith("the extension "):
            yield _TABLES.get(kind, "table"), qualified(connection.dialect, *name)
    quote = connection.dialect.identifier_preparer.quote
    for rows in models.tables:
        for key in rows.keys_without_model:
            table = qualified(connection.dialect, rows.table.schema, rows.table.name)
            yield "foreign key to a table without a model", f"{quote(key)} on {table}"
    for row in connection.execute(_SQL["parts"], parameters):
        if (row.schema, row.table) in tables:
            yield row.kind, row.name
    for row in connection.execute(_SQL["sequences"], parameters):
        if row.kind != "owner of sequence" or (row.schema, row.name) not in models.made_sequences:
            yield row.kind, row.described
    for row in connection.execute(_SQL["types"], parameters):
        if not models.types.holds(row.type):
            yield row.kind, row.name
        elif row.has_comment:
            yield f"comment on {row.kind}", row.name
