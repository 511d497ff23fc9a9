"""Tables of the database that do not belong to the models: partitions, members of extensions, tables of other tools."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection

from safe_migrations.autogenerate.plugin import SCOPE, Scope
from safe_migrations.postgres.catalog import version_table
from safe_migrations.postgres.sql import dotted, read_sql

SHOWN = 5  # names of a kind
# Tables in which other tools record their migrations.
MIGRATION_TOOLS = {
    "Django": ["django_migrations"],
    "Flyway": ["flyway_schema_history"],
    "Liquibase": ["databasechangelog", "databasechangeloglock"],
    "Rails": ["schema_migrations", "ar_internal_metadata"],
    "Prisma": ["_prisma_migrations"],
    "Sequelize": ["SequelizeMeta"],
    "node-pg-migrate": ["pgmigrations"],
    "Knex": ["knex_migrations", "knex_migrations_lock"],
    "Drizzle": ["__drizzle_migrations"],
    "Entity Framework": ["__EFMigrationsHistory"],
    "goose": ["goose_db_version"],
    "SQLx": ["_sqlx_migrations"],
    "Diesel": ["__diesel_schema_migrations"],
    "Atlas": ["atlas_schema_revisions"],
    "Doctrine": ["doctrine_migration_versions"],
    "yoyo": ["_yoyo_log", "_yoyo_migration", "_yoyo_version", "yoyo_lock"],
    "Aerich": ["aerich"],
}
_EXTENSIONS = {"PostGIS": ["spatial_ref_sys"], "pg_partman": ["part_config", "part_config_sub"]}
_OWNER = {name: tool for tool, names in {**MIGRATION_TOOLS, **_EXTENSIONS}.items() for name in names}
_SQL = read_sql(__package__, "ownership.sql")


def read_scope(context: AutogenContext) -> None:
    """Note what autogenerate compares: the schemas of the models, and what of these is the models' own."""
    scope: Scope | None = context.opts.get(SCOPE)
    connection = context.connection
    if scope is None or connection is None:
        return
    default = connection.dialect.default_schema_name

    def short(schema: str | None) -> str | None:
        return None if schema == default else schema

    models = {(short(table.schema), table.name): table for table in context.table_key_to_table.values()}
    schemas = frozenset(schema for schema, _ in models) or frozenset((None,))
    if scope.schemas is not None or not context.opts.get("include_schemas"):
        scope.schemas = schemas
        context.opts["include_schemas"] = schemas != {None}
    tables = {(short(schema), name): owner for (schema, name), owner in read_owners(connection).items()}
    schema, name = version_table(context.opts)
    own = short(schema), name
    scope.version_table = None if own in models else own
    scope.not_owned = {
        key: owner
        for key, owner in tables.items()
        if owner and key not in models and key != own and (scope.schemas is None or key[0] in scope.schemas)
    }
    scope.inherited = frozenset(
        (short(row.schema), row.table, row.name)
        for row in connection.execute(_SQL["inherited"])
        if (table := models.get((short(row.schema), row.table))) is not None
        and (row.referred_table is None or (short(row.referred_schema), row.referred_table) in scope.not_owned)
        and row.name not in _names(table)
    )


def read_owners(connection: Connection) -> dict[tuple[str, str], str | None]:
    """What each table belongs to, by its schema and name: None for a table of the models alone."""
    rows = connection.execute(_SQL["tables"])
    return {(row.schema, row.name): row.owner or _OWNER.get(row.name) for row in rows}


def _names(table: Any) -> set[str]:
    items = (*table.columns, *table.indexes, *table.constraints)
    return {str(item.name) for item in items}


def explain_scope(options: Mapping[str, Any]) -> list[str]:
    """Lines that name the tables which were not compared, and why; none if there are none."""
    scope: Scope | None = options.get(SCOPE)
    if scope is None or not scope.not_owned:
        return []
    by_owner: defaultdict[str, list[str]] = defaultdict(list)
    for (schema, name), owner in scope.not_owned.items():
        by_owner[owner].append(dotted(schema, name))
    lines = ["Not compared, because these tables do not belong to the models:"]
    for owner, names in sorted(by_owner.items()):
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        lines.append(f"  {owner}: {', '.join(names[:SHOWN])}{more}")
    return lines
