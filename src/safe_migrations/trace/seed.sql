-- tables --
SELECT c.oid::bigint AS oid, c.relname AS name, n.nspname AS schema, c.oid::regclass::text AS label
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> :version_table
  AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'safe_migrations')
ORDER BY c.oid

-- columns --
SELECT a.attrelid::bigint AS oid, a.attnum AS number, a.attname AS name, a.attnotnull AS required,
  format_type(a.atttypid, a.atttypmod) AS type, pg_get_expr(d.adbin, d.adrelid) AS filled,
  coalesce(a.attidentity <> '' OR a.attgenerated <> '', false) AS computed,
  (SELECT enumlabel FROM pg_enum WHERE enumtypid IN (t.oid, t.typbasetype) ORDER BY enumsortorder LIMIT 1) AS label,
  (SELECT string_agg(pg_get_constraintdef(oid), ' ') FROM pg_constraint WHERE contypid = t.oid) AS condition
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid = ANY(CAST(:oids AS oid[]))
ORDER BY a.attnum

-- constraints --
SELECT conrelid::bigint AS oid, conkey AS numbers, confrelid::bigint AS parent, confkey AS referred,
  pg_get_expr(conbin, conrelid) AS condition
FROM pg_constraint WHERE contype IN ('c', 'f') AND conparentid = 0 AND conrelid = ANY(CAST(:oids AS oid[]))
ORDER BY oid
