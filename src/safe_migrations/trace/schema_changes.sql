-- tables --
-- Without Alembic's table and those of the backfills, which hold no data of the service.
SELECT c.oid::bigint AS oid, c.oid::regclass::text AS name, c.relkind::text AS kind, pg_relation_filenode(c.oid) AS file
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname !~ '^pg_' AND c.relname <> :version_table
  AND n.nspname NOT IN ('information_schema', 'safe_migrations')

-- columns --
SELECT attrelid::bigint AS oid, attnum AS number, quote_ident(attname) AS name, attnotnull AS required,
  atthasdef OR attidentity <> '' AS filled
FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped AND attrelid = ANY(CAST(:oids AS oid[]))

-- foreign_keys --
SELECT oid::bigint, conrelid::bigint, confrelid::bigint FROM pg_constraint WHERE contype = 'f'

-- children --
-- Also of indexes.
SELECT inhrelid::bigint, inhparent::bigint FROM pg_inherits
