"""What exists in the database and is not the models': partitions, members of extensions, tables of other tools."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection, text

from safe_migrations.autogenerate.plugin import SCOPE, Scope

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
# Alembic's version table has this one column, whatever its name.
_TABLES = text("""
    SELECT n.nspname AS schema, c.relname AS name, coalesce(
        (SELECT CASE WHEN c.relispartition THEN 'partitions of ' ELSE 'children of ' END || inhparent::regclass
         FROM pg_inherits WHERE inhrelid = c.oid LIMIT 1),
        (SELECT 'the extension ' || extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
         WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'),
        (SELECT 'Alembic' FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
         HAVING array_agg(attname::text) = ARRAY['version_num'])
      ) AS owner
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    ORDER BY 1, 2
""")
# What a table has from its parent, constraints of the kinds that SQLAlchemy does not have, and foreign keys with the
# table that they refer to.
_INHERITED = text("""
    SELECT n.nspname AS schema, c.relname AS table, o.name, NULL AS referred_schema, NULL AS referred_table
    FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (
      SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attinhcount > 0
      UNION ALL SELECT i.relname::text FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
        WHERE x.indrelid = c.oid AND i.relispartition
      UNION ALL SELECT conname::text FROM pg_constraint WHERE conrelid = c.oid AND (coninhcount > 0 OR conparentid <> 0)
    ) AS o (name)
    WHERE c.relkind IN ('r', 'p')
    UNION ALL
    SELECT n.nspname, c.relname, conname, NULL, NULL
    FROM pg_constraint o JOIN pg_class c ON c.oid = conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_index ON indexrelid = conindid
    WHERE conparentid <> 0  -- for each partition that a foreign key refers to
      OR (contype = 'c' AND connoinherit AND relkind = 'r') OR (contype = 'x' AND indnatts > indnkeyatts)
      OR to_jsonb(o) ->> 'conenforced' = 'false' OR to_jsonb(o) ->> 'conperiod' = 'true'
    UNION ALL
    SELECT n.nspname, c.relname, conname, rn.nspname, r.relname
    FROM pg_constraint JOIN pg_class c ON c.oid = conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class r ON r.oid = confrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace
    WHERE contype = 'f' AND conparentid = 0
""")


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
    own = (short(context.opts.get("version_table_schema")), context.opts.get("version_table"))
    scope.not_owned = {
        key: owner
        for key, owner in tables.items()
        if owner and key not in models and key != own and (scope.schemas is None or key[0] in scope.schemas)
    }
    scope.inherited = frozenset(
        (short(row.schema), row.table, row.name)
        for row in connection.execute(_INHERITED)
        if (table := models.get((short(row.schema), row.table))) is not None
        and (row.referred_table is None or (short(row.referred_schema), row.referred_table) in scope.not_owned)
        and row.name not in _names(table)
    )


def read_owners(connection: Connection) -> dict[tuple[str, str], str | None]:
    """What each table belongs to, by its schema and name: None for a table of the models alone."""
    rows = connection.execute(_TABLES)
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
        by_owner[owner].append(f"{schema}.{name}" if schema else name)
    lines = ["Not compared, because these tables do not belong to the models:"]
    for owner, names in sorted(by_owner.items()):
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        lines.append(f"  {owner}: {', '.join(names[:SHOWN])}{more}")
    return lines
