-- describe --
-- What PostgreSQL says of tables, one row for each attribute that is set. The search path is empty, so that names have a schema.
WITH described AS MATERIALIZED (
  SELECT c.*, n.nspname
  FROM unnest(CAST(:schemas AS text[]), CAST(:tables AS text[])) AS wanted (schema, name)
  JOIN pg_namespace n ON n.nspname = wanted.schema
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name AND c.relkind IN ('r', 'p')
), attribute AS (
  SELECT c.nspname, c.relname, a.*, format_type(a.atttypid, a.atttypmod) AS type,
    CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::regcollation::text END AS own_collation,
    pg_get_expr(d.adbin, d.adrelid) AS expression, s.deptype, s.seqtypid::regtype::text AS seqtype,
    format('START %s INCREMENT %s MINVALUE %s MAXVALUE %s CACHE %s%s',
      s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, CASE WHEN s.seqcycle THEN ' CYCLE' END) AS counting,
    s.seqrelid::regclass::text AS sequence
  FROM described c
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  LEFT JOIN LATERAL (
    SELECT * FROM pg_depend owned JOIN pg_sequence ON seqrelid = owned.objid
    WHERE owned.classid = 'pg_class'::regclass AND owned.refclassid = 'pg_class'::regclass
      AND owned.refobjid = a.attrelid AND owned.refobjsubid = a.attnum AND owned.deptype IN ('a', 'i')
    LIMIT 1
  ) s ON true
)
SELECT nspname, relname, kind, CAST('' AS name) AS name, definition, true AS is_valid, false AS is_inherited
FROM described c, LATERAL (VALUES
  ('persistence', CASE relpersistence WHEN 'u' THEN 'UNLOGGED' END),
  ('partition key', pg_get_partkeydef(c.oid)),
  ('storage parameters', (SELECT string_agg(option, ', ' ORDER BY option) FROM unnest(reloptions) AS option)),
  ('access method', (SELECT amname FROM pg_am WHERE oid = relam)),
  ('tablespace', (SELECT spcname FROM pg_tablespace WHERE oid = reltablespace)),
  ('inheritance', (SELECT string_agg(inhparent::regclass::text, ', ' ORDER BY inhseqno) FROM pg_inherits
    WHERE inhrelid = c.oid AND NOT relispartition))
) AS described_as (kind, definition)
WHERE definition IS NOT NULL
UNION ALL
SELECT nspname, relname, kind, attname, definition, true, false
FROM attribute a, LATERAL (VALUES
  ('type', type || coalesce(' COLLATE ' || own_collation, '')),
  ('not null', CASE WHEN attnotnull THEN 'NOT NULL' END),
  ('default', CASE WHEN attgenerated = '' THEN expression END),
  ('computed', CASE attgenerated WHEN 's' THEN expression || ' STORED' WHEN 'v' THEN expression || ' VIRTUAL' END),
  ('identity', CASE attidentity WHEN 'a' THEN 'ALWAYS ' || counting WHEN 'd' THEN 'BY DEFAULT ' || counting END),
  ('serial', CASE WHEN deptype = 'a' AND expression = format('nextval(%L::regclass)', sequence) THEN sequence || ' AS ' || seqtype END)
) AS described_as (kind, definition)
WHERE definition IS NOT NULL
UNION ALL
SELECT nspname, relname,
  CASE contype WHEN 'c' THEN 'check' WHEN 'f' THEN 'foreign key' WHEN 'p' THEN 'primary key' WHEN 'u' THEN 'unique'
    ELSE 'exclusion' END,
  conname, regexp_replace(pg_get_constraintdef(o.oid), ' NOT VALID$', ''), convalidated,
  coninhcount > 0 OR conparentid <> 0
FROM described c JOIN pg_constraint o ON o.conrelid = c.oid AND contype IN ('c', 'f', 'p', 'u', 'x')
UNION ALL
SELECT nspname, relname, 'constraint comment', conname, obj_description(o.oid, 'pg_constraint'), true, false
FROM described c JOIN pg_constraint o ON o.conrelid = c.oid AND contype IN ('c', 'f', 'p', 'u')
WHERE obj_description(o.oid, 'pg_constraint') IS NOT NULL
UNION ALL
SELECT c.nspname, c.relname, 'index', i.relname,
  CASE WHEN indisunique THEN 'UNIQUE ' ELSE '' END || 'USING ' || substr(pg_get_indexdef(indexrelid), length(format(
    'CREATE %sINDEX %I ON %s%I.%I USING ', CASE WHEN indisunique THEN 'UNIQUE ' END, i.relname,
    CASE WHEN i.relkind = 'I' AND c.relkind = 'p' THEN 'ONLY ' END, c.nspname, c.relname)) + 1),
  true, EXISTS (SELECT FROM pg_inherits WHERE inhrelid = indexrelid)
FROM described c JOIN pg_index x ON x.indrelid = c.oid AND (x.indisvalid OR c.relkind = 'p') JOIN pg_class i ON i.oid = indexrelid
WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u', 'x'))

-- sequences --
SELECT n.nspname, c.relname, 'sequence', c.relname, format(
  'AS %s START %s INCREMENT %s MINVALUE %s MAXVALUE %s CACHE %s %sCYCLE', seqtypid::regtype, seqstart, seqincrement,
  seqmin, seqmax, seqcache, CASE WHEN NOT seqcycle THEN 'NO ' END), true, false
FROM unnest(CAST(:schemas AS text[]), CAST(:tables AS text[])) AS wanted (schema, name)
JOIN pg_namespace n ON n.nspname = wanted.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name JOIN pg_sequence ON seqrelid = c.oid

-- existing --
SELECT n.nspname, c.relname FROM unnest(CAST(:schemas AS text[]), CAST(:tables AS text[])) AS wanted (schema, name)
JOIN pg_namespace n ON n.nspname = wanted.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name AND c.relkind IN ('r', 'p')

-- schemas --
SELECT name, quote_ident(name) FROM unnest(CAST(:names AS text[])) AS name

-- types --
SELECT wanted, format('%I.%I', n.nspname, t.typname) AS name,
  ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder) AS values
FROM unnest(CAST(:names AS text[])) AS wanted
JOIN pg_type t ON t.oid = to_regtype(wanted) JOIN pg_namespace n ON n.oid = t.typnamespace

-- begin --
SELECT set_config('lock_timeout', :lock_timeout, true),
  set_config('search_path', concat_ws(', ', CAST(:schema AS text), nullif(current_setting('search_path'), '')), true)

-- qualify --
SELECT set_config('search_path', '', true)

-- constants --
-- The values of constant defaults, which PostgreSQL computes when it adds the columns.
SELECT attname, attmissingval::text AS value FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
WHERE relnamespace = to_regnamespace(:schema) AND attmissingval IS NOT NULL
