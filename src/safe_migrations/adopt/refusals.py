"""Objects of a database that can't be reproduced, found before anything is written."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from safe_migrations.errors import AdoptionError
from safe_migrations.postgres.sql import read_sql
from safe_migrations.printable import printable

_SQL = read_sql(__package__, "refusals.sql")
_INSTEAD = (
    "To adopt the other objects, restore a backup into a new database, drop these objects there, and adopt the new "
    "database. Then record the new baseline in this database (alembic stamp)."
)


def refuse_not_reproducible(connection: Connection, schemas: Sequence[str], instead: str = _INSTEAD) -> None:
    """Refuse a database with objects that a revision can't make.

    Args:
        schemas: the only ones to adopt, without what belongs to no schema; all of them if there are none.

    Raises:
        AdoptionError: names each of them.
    """
    rows = connection.execute(_SQL["not_reproducible"], {"schemas": list(schemas)}).all()
    if rows:
        raise _refusal([f"{row.kind} {row.name}: {row.why}" for row in rows], instead)


def refuse_settings(connection: Connection, instead: str) -> None:
    """Refuse settings and privileges that revisions have made, and that no dump of a database has.

    Raises:
        AdoptionError: names each of them.
    """
    if rows := connection.execute(_SQL["settings"]).all():
        raise _refusal([f"{row.kind} {row.name}: {row.why}" for row in rows], instead)


def refuse_missing_schemas(connection: Connection, schemas: Sequence[str]) -> None:
    """Refuse schemas that the database does not have.

    Raises:
        AdoptionError: names the first of them.
    """
    for name in connection.scalars(_SQL["missing_schemas"], {"names": list(schemas)}):
        raise AdoptionError(f"The database has no schema {printable(name)}. Nothing was changed. Correct --schema.")


def refuse_lacking(connection: Connection, extensions: Sequence[str], roles: Sequence[str], where: str) -> None:
    """Refuse extensions and roles that the server of the scratch database does not have.

    Args:
        where: what to set for another server.

    Raises:
        AdoptionError: names each of them.
    """
    lacking = [
        f"{kind} {printable(name)}: missing on the server of the scratch database, or the user there may not create "
        f"the {kind}"
        for kind, query, names in (
            ("extension", "lacking_extensions", extensions),
            ("role of a policy", "lacking_roles", roles),
        )
        for name in connection.scalars(_SQL[query], {"names": list(names)})
    ]
    if lacking:
        raise _refusal(
            lacking,
            f"Install the extensions and create the roles there. Or name another server in {where}, with a user that "
            "may create them. Then run the same command again.",
        )


def version_tables(connection: Connection) -> list[tuple[str, str]]:
    """The tables, each with its schema, that look like a version table of Alembic."""
    return [(row.schema, row.name) for row in connection.execute(_SQL["version_tables"])]


def extensions_of(connection: Connection) -> list[str]:
    """The extensions of a database."""
    return list(connection.scalars(_SQL["extensions"]))


def roles_of_policies(connection: Connection, schemas: Sequence[str]) -> list[str]:
    """The roles that policies name, in these schemas, or in all of them if there are none."""
    return list(connection.scalars(_SQL["roles_of_policies"], {"schemas": list(schemas)}))


def may_create_table(connection: Connection, schema: str | None) -> bool:
    """Whether the user may create the version table; a schema that does not exist is created before."""
    return connection.scalar(_SQL["may_create_table"], {"schema": schema}) is not False


def is_read_only(connection: Connection) -> bool:
    """Whether the server accepts no writes, such as a standby."""
    return bool(connection.scalar(_SQL["is_read_only"]))


def count_relations(connection: Connection) -> int:
    """How many tables, indexes and the like a database has."""
    return connection.scalar(_SQL["relations"]) or 0


def may_hold_scratch(connection: Connection, relations: int) -> bool:
    """Whether the user may create a scratch database here, and a transaction may lock so many relations."""
    if not connection.scalar(_SQL["may_create_databases"]):
        return False
    return int(connection.scalar(_SQL["locks"]) or 0) > relations


def _refusal(lines: Iterable[str], instead: str) -> AdoptionError:
    listed = "\n".join(f"  {printable(line)}" for line in lines)
    return AdoptionError(
        f"No revision can make these objects of the database. Nothing was changed.\n{listed}\n{instead}"
    )
