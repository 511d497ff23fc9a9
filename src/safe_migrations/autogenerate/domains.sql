-- describe --
-- The domains of the database, or those that this session has made for a comparison.
SELECT n.nspname AS schema, t.typname AS name, pg_type_is_visible(t.oid) AS visible,
  format_type(t.typbasetype, t.typtypmod) AS type,
  CASE WHEN t.typcollation NOT IN (0, b.typcollation) THEN CAST(CAST(t.typcollation AS regcollation) AS text) END
    AS collation,
  pg_get_expr(t.typdefaultbin, 0) AS default, t.typnotnull AS not_null,
  ARRAY(
    SELECT CAST(conname AS text) FROM pg_constraint WHERE contypid = t.oid AND contype = 'c' ORDER BY conname
  ) AS names,
  ARRAY(
    SELECT regexp_replace(pg_get_constraintdef(oid), ' NOT VALID$', '')
    FROM pg_constraint WHERE contypid = t.oid AND contype = 'c' ORDER BY conname
  ) AS checks
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace JOIN pg_type b ON b.oid = t.typbasetype
WHERE t.typtype = 'd' AND (n.oid = pg_my_temp_schema()) = :temporary

-- columns --
SELECT attname AS name, attnotnull AS not_null, atthasdef AS has_default
FROM pg_attribute WHERE attrelid = to_regclass(:table) AND attname = ANY(:names)

-- is_same_type --
SELECT to_regtype(:existing) = to_regtype(:wanted)
