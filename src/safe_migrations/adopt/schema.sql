-- schemas --
-- Those that a user has made; members of extensions belong to their extensions.
SELECT nspname FROM pg_namespace n
WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', :progress)
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_namespace'::regclass AND objid = n.oid AND deptype = 'e')
ORDER BY 1

-- tables --
SELECT n.nspname AS schema, c.relname AS name, pg_get_partkeydef(c.oid) AS partition_by, relpersistence = 'u' AS unlogged,
  coalesce(c.reloptions, '{}') || ARRAY(
    SELECT 'toast.' || option FROM pg_class toast, unnest(toast.reloptions) AS option WHERE toast.oid = c.reltoastrelid
  ) AS options,
  (SELECT spcname FROM pg_tablespace WHERE oid = c.reltablespace) AS tablespace,
  (SELECT amname FROM pg_am WHERE oid = c.relam AND amname <> 'heap') AS method,
  obj_description(c.oid, 'pg_class') AS comment
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY(:schemas)
ORDER BY 1, 2

-- columns --
-- With the sequence that belongs to a column, of an identity or of a serial type.
SELECT n.nspname AS schema, c.relname AS table, a.attname AS name, a.attnotnull AS not_null,
  format_type(a.atttypid, a.atttypmod) AS type,
  CASE WHEN a.attcollation <> t.typcollation THEN CAST(CAST(a.attcollation AS regcollation) AS text) END AS collation,
  pg_get_expr(d.adbin, d.adrelid, true) AS expression, CAST(a.attgenerated AS text) AS generated,
  CAST(a.attidentity AS text) AS identity, col_description(c.oid, a.attnum) AS comment,
  s.sequence_schema, s.sequence, s.type AS sequence_type, s.seqstart AS start, s.seqincrement AS increment, s.seqmin AS minimum, s.seqmax AS maximum,
  s.seqcache AS cache, s.seqcycle AS cycle, s.has_default_name,
  pg_get_expr(d.adbin, d.adrelid) = format('nextval(%L::regclass)', s.seqrelid::regclass) AS is_serial
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN LATERAL (
  SELECT pg_sequence.*, format_type(seqtypid, NULL) AS type, qn.nspname AS sequence_schema, q.relname AS sequence,
    q.relname = c.relname || '_' || a.attname || '_seq' AND q.relnamespace = c.relnamespace
      AND q.relpersistence = c.relpersistence AS has_default_name
  FROM pg_depend owned JOIN pg_sequence ON seqrelid = owned.objid JOIN pg_class q ON q.oid = seqrelid
  JOIN pg_namespace qn ON qn.oid = q.relnamespace
  WHERE owned.classid = 'pg_class'::regclass AND owned.refclassid = 'pg_class'::regclass
    AND owned.refobjid = a.attrelid AND owned.refobjsubid = a.attnum AND owned.deptype IN ('a', 'i')
  ORDER BY owned.deptype DESC LIMIT 1
) s ON true
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname = ANY(:schemas)
  AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY 1, 2, a.attnum

-- constraints --
SELECT n.nspname AS schema, c.relname AS table, o.conname AS name, CAST(o.contype AS text) AS type,
  ARRAY(
    SELECT CAST(attname AS text) FROM unnest(o.conkey) WITH ORDINALITY AS k (number, place)
    JOIN pg_attribute ON attrelid = o.conrelid AND attnum = number ORDER BY place
  ) AS columns,
  fn.nspname AS referred_schema, f.relname AS referred_table,
  ARRAY(
    SELECT CAST(attname AS text) FROM unnest(o.confkey) WITH ORDINALITY AS k (number, place)
    JOIN pg_attribute ON attrelid = o.confrelid AND attnum = number ORDER BY place
  ) AS referred_columns,
  pg_get_constraintdef(o.oid) AS definition, pg_get_expr(o.conbin, o.conrelid, true) AS expression,
  o.condeferrable AS deferrable, o.condeferred AS deferred, o.convalidated AS valid,
  obj_description(o.oid, 'pg_constraint') AS comment,
  x.indnullsnotdistinct AS nulls_not_distinct,
  ARRAY(
    SELECT CAST(attname AS text) FROM unnest(x.indkey[x.indnkeyatts:]) WITH ORDINALITY AS k (number, place)
    JOIN pg_attribute ON attrelid = o.conrelid AND attnum = number ORDER BY place
  ) AS include,
  ARRAY(
    SELECT CASE WHEN pg_operator_is_visible(p.oid) THEN CAST(oprname AS text)
      ELSE format('OPERATOR(%I.%s)', pn.nspname, oprname) END
    FROM unnest(o.conexclop) WITH ORDINALITY AS k (operator, place)
    JOIN pg_operator p ON p.oid = operator JOIN pg_namespace pn ON pn.oid = oprnamespace ORDER BY place
  ) AS operators
FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_class f ON f.oid = o.confrelid LEFT JOIN pg_namespace fn ON fn.oid = f.relnamespace
LEFT JOIN pg_index x ON x.indexrelid = o.conindid AND o.contype IN ('p', 'u', 'x')
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname = ANY(:schemas)
  AND o.contype IN ('p', 'u', 'x', 'f', 'c') AND o.conparentid = 0
  -- SQLAlchemy does not have these kinds:
  AND coalesce(to_jsonb(o) ->> 'conenforced', 'true') = 'true' AND coalesce(to_jsonb(o) ->> 'conperiod', 'false') = 'false'
  AND NOT (o.contype = 'c' AND o.connoinherit AND c.relkind = 'r') AND NOT (o.contype = 'x' AND x.indnatts > x.indnkeyatts)
ORDER BY 1, 2, o.contype, o.conname

-- indexes --
-- Also those of exclusion constraints, for their elements. An element that is not a column has the number 0.
SELECT n.nspname AS schema, c.relname AS table, i.relname AS name, indisunique AS unique, amname AS method,
  pg_get_indexdef(indexrelid) AS definition, pg_get_expr(indpred, indrelid, true) AS predicate,
  ARRAY(SELECT pg_get_indexdef(indexrelid, place, false) FROM generate_series(1, indnkeyatts) AS place) AS keys,
  ARRAY(
    SELECT CAST(attname AS text) FROM generate_series(1, indnatts) AS place
    LEFT JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[place - 1] AND attnum > 0 ORDER BY place
  ) AS columns,
  EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype = 'x') AS is_exclusion,
  indnkeyatts AS key_count, indnullsnotdistinct AS nulls_not_distinct, indisvalid AS valid,
  coalesce(i.reloptions, '{}') AS options, (SELECT spcname FROM pg_tablespace WHERE oid = i.reltablespace) AS tablespace
FROM pg_index JOIN pg_class i ON i.oid = indexrelid JOIN pg_class c ON c.oid = indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am ON pg_am.oid = i.relam
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname = ANY(:schemas)
  AND (indisvalid OR i.relkind = 'I')  -- as pg_dump
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u'))
ORDER BY 1, 2, 3

-- sequences --
-- Those that no identity has made.
SELECT n.nspname AS schema, c.relname AS name, format_type(seqtypid, NULL) AS sequence_type, seqstart AS start,
  seqincrement AS increment, seqmin AS minimum, seqmax AS maximum, seqcache AS cache, seqcycle AS cycle
FROM pg_sequence JOIN pg_class c ON c.oid = seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(:schemas) AND NOT EXISTS (
  SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype IN ('i', 'e'))
ORDER BY 1, 2

-- enums --
SELECT n.nspname AS schema, t.typname AS name, format_type(t.oid, NULL) AS type,
  ARRAY(SELECT CAST(enumlabel AS text) FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder) AS labels
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype = 'e'
ORDER BY 1, 2

-- domains --
-- A domain of a domain, of an enum or with several checks is not one of SQLAlchemy's.
SELECT n.nspname AS schema, t.typname AS name, format_type(t.oid, NULL) AS type,
  format_type(t.typbasetype, t.typtypmod) AS base, pg_get_expr(t.typdefaultbin, 0) AS default, t.typnotnull AS not_null,
  CASE WHEN t.typcollation <> b.typcollation THEN CAST(l.collname AS text) END AS collation,
  CASE WHEN NOT pg_collation_is_visible(l.oid) THEN CAST(ln.nspname AS text) END AS collation_schema,
  ARRAY(SELECT CAST(conname AS text) FROM pg_constraint WHERE contypid = t.oid AND contype = 'c' ORDER BY 1) AS checks,
  (SELECT pg_get_expr(conbin, 0, true) FROM pg_constraint WHERE contypid = t.oid AND contype = 'c' LIMIT 1) AS expression
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace JOIN pg_type b ON b.oid = t.typbasetype
LEFT JOIN pg_collation l ON l.oid = t.typcollation LEFT JOIN pg_namespace ln ON ln.oid = l.collnamespace
WHERE t.typtype = 'd'
ORDER BY 1, 2
