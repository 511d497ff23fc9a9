-- objects --
-- Those that users have made, apart from tables, their parts, and types that models can have.
WITH object (classid, objid, namespace) AS (
  SELECT tableoid, oid, oid FROM pg_namespace WHERE nspname <> 'public'
  UNION ALL SELECT tableoid, oid, typnamespace FROM pg_type WHERE typtype NOT IN ('d', 'e')
  UNION ALL SELECT tableoid, oid, relnamespace FROM pg_class WHERE relkind IN ('v', 'm', 'f')
  UNION ALL SELECT i.tableoid, i.oid, c.relnamespace FROM pg_class i JOIN pg_index ON indexrelid = i.oid
    JOIN pg_class c ON c.oid = indrelid WHERE c.relkind = 'm' OR (NOT indisvalid AND i.relkind = 'i' AND NOT i.relispartition)
  UNION ALL SELECT t.tableoid, t.oid, relnamespace FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
    WHERE NOT tgisinternal AND tgparentid = 0
  UNION ALL SELECT p.tableoid, p.oid, relnamespace FROM pg_policy p JOIN pg_class c ON c.oid = polrelid
  UNION ALL SELECT r.tableoid, r.oid, relnamespace FROM pg_rewrite r JOIN pg_class c ON c.oid = ev_class
    WHERE rulename <> '_RETURN'
  UNION ALL SELECT tableoid, oid, pronamespace FROM pg_proc
  UNION ALL SELECT tableoid, oid, oprnamespace FROM pg_operator
  UNION ALL SELECT tableoid, oid, opcnamespace FROM pg_opclass
  UNION ALL SELECT tableoid, oid, opfnamespace FROM pg_opfamily
  UNION ALL SELECT tableoid, oid, collnamespace FROM pg_collation
  UNION ALL SELECT tableoid, oid, connamespace FROM pg_conversion
  UNION ALL SELECT tableoid, oid, stxnamespace FROM pg_statistic_ext
  UNION ALL SELECT tableoid, oid, cfgnamespace FROM pg_ts_config
  UNION ALL SELECT tableoid, oid, dictnamespace FROM pg_ts_dict
  UNION ALL SELECT tableoid, oid, prsnamespace FROM pg_ts_parser
  UNION ALL SELECT tableoid, oid, tmplnamespace FROM pg_ts_template
  UNION ALL SELECT tableoid, oid, NULL FROM pg_extension
  UNION ALL SELECT tableoid, oid, NULL FROM pg_language
  UNION ALL SELECT tableoid, oid, NULL FROM pg_cast
  UNION ALL SELECT tableoid, oid, NULL FROM pg_transform
  UNION ALL SELECT tableoid, oid, NULL FROM pg_am
  UNION ALL SELECT tableoid, oid, NULL FROM pg_event_trigger
  UNION ALL SELECT tableoid, oid, NULL FROM pg_publication
  UNION ALL SELECT tableoid, oid, NULL FROM pg_foreign_data_wrapper
  UNION ALL SELECT tableoid, oid, NULL FROM pg_foreign_server
)
SELECT CASE WHEN classid = 'pg_class'::regclass AND EXISTS (SELECT FROM pg_index WHERE indexrelid = objid AND NOT indisvalid)
  THEN 'invalid index' ELSE i.type END AS kind, i.identity AS name
FROM object LEFT JOIN pg_namespace n ON n.oid = namespace, pg_identify_object(classid, objid, 0) AS i
WHERE objid >= 16384 AND (namespace IS NULL OR nspname = ANY(:schemas))  -- 16384 is the first that is not PostgreSQL's own
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = object.classid AND d.objid = object.objid AND deptype IN ('e', 'i'))
ORDER BY 1, 2

-- parts --
-- Of a table of the models, what SQLAlchemy can't describe.
WITH relation AS (
  SELECT c.*, nspname, format('%I.%I', nspname, relname) AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
  WHERE relkind IN ('r', 'p') AND NOT relispartition AND nspname = ANY(:schemas)
)
SELECT nspname AS schema, relname AS table, kind, what || name AS name
FROM relation c, LATERAL (VALUES
  ('row level security of table', CASE WHEN relrowsecurity OR relforcerowsecurity THEN '' END),
  ('replica identity of table', CASE WHEN relreplident <> 'd' THEN '' END),
  ('composite type of table', CASE WHEN reloftype <> 0 THEN '' END),
  ('index of CLUSTER', (
    SELECT format('%I.%I on ', nspname, i.relname) FROM pg_index JOIN pg_class i ON i.oid = indexrelid
    WHERE indrelid = c.oid AND indisclustered))
) AS part (kind, what)
WHERE what IS NOT NULL
UNION ALL
SELECT nspname, relname, kind, format('%s.%I', c.name, attname)
FROM relation c JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
JOIN pg_type t ON t.oid = atttypid, LATERAL (VALUES
  ('storage of column', attstorage <> typstorage),
  ('compression of column', attcompression <> ''),
  ('statistics target of column', coalesce(to_jsonb(a) ->> 'attstattarget', '-1') <> '-1'),
  ('options of column', attoptions IS NOT NULL)
) AS part (kind, is_set)
WHERE is_set
UNION ALL
SELECT nspname, c.relname, kind, format('%I on %s', conname, c.name)
FROM relation c JOIN pg_constraint o ON conrelid = c.oid AND conparentid = 0 AND coninhcount = 0
LEFT JOIN pg_index x ON indexrelid = conindid AND contype IN ('p', 'u', 'x') LEFT JOIN pg_class i ON i.oid = indexrelid
LEFT JOIN pg_attribute a ON contype = 'n' AND attrelid = c.oid AND attnum = conkey[1]
CROSS JOIN LATERAL (VALUES
  ('name of not-null constraint', conname <> c.relname || '_' || attname || '_not_null' AND length(c.relname || attname) < 54),
  ('constraint with NO INHERIT', contype IN ('c', 'n') AND connoinherit AND c.relkind = 'r'),
  ('constraint with NOT ENFORCED', to_jsonb(o) ->> 'conenforced' = 'false'),
  ('constraint with WITHOUT OVERLAPS or PERIOD', to_jsonb(o) ->> 'conperiod' = 'true'),
  ('NOT VALID of constraint', contype IN ('c', 'n') AND NOT convalidated AND coalesce(to_jsonb(o) ->> 'conenforced', 'true') = 'true'),
  ('constraint with INCLUDE', contype = 'x' AND indnatts > indnkeyatts),
  ('index options of constraint', i.reloptions IS NOT NULL OR i.reltablespace <> 0),
  ('comment on constraint', contype IN ('x', 'n') AND obj_description(o.oid, 'pg_constraint') IS NOT NULL)
) AS part (kind, is_set)
WHERE is_set
UNION ALL
SELECT nspname, c.relname, kind, format('%I.%I', nspname, i.relname)
FROM relation c JOIN pg_index ON indrelid = c.oid JOIN pg_class i ON i.oid = indexrelid, LATERAL (VALUES
  ('comment on index', obj_description(i.oid, 'pg_class') IS NOT NULL),
  ('ON ONLY of index', i.relkind = 'I' AND NOT indisvalid),
  ('statistics target of index', EXISTS (SELECT FROM pg_attribute a WHERE attrelid = i.oid
    AND coalesce(to_jsonb(a) ->> 'attstattarget', '-1') <> '-1'))
) AS part (kind, is_set)
WHERE is_set
UNION ALL
SELECT nspname, c.relname, 'state of trigger', format('%I on %s', tgname, c.name)
FROM relation c JOIN pg_trigger ON tgrelid = c.oid WHERE tgenabled <> 'O' AND tgparentid = 0

-- sequences --
-- Of sequences that a column has; and of all others, what SQLAlchemy can't describe.
SELECT n.nspname AS schema, q.relname AS name, kind, format('%I.%I', n.nspname, q.relname)
    || CASE WHEN c.relname IS NOT NULL THEN format(' on %I.%I', cn.nspname, c.relname) ELSE '' END AS described
FROM pg_sequence JOIN pg_class q ON q.oid = seqrelid JOIN pg_namespace n ON n.oid = relnamespace
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND objid = q.oid AND refobjsubid > 0 AND deptype IN ('a', 'i')
LEFT JOIN pg_class c ON c.oid = refobjid LEFT JOIN pg_namespace cn ON cn.oid = c.relnamespace
LEFT JOIN pg_attribute a ON attrelid = c.oid AND attnum = refobjsubid
CROSS JOIN LATERAL (VALUES
  ('owner of sequence', deptype = 'a'),
  ('name of identity sequence', deptype = 'i' AND q.relname <> c.relname || '_' || attname || '_seq'),
  ('UNLOGGED of sequence', q.relpersistence <> coalesce(c.relpersistence, 'p')),
  ('comment on sequence', obj_description(q.oid, 'pg_class') IS NOT NULL)
) AS part (kind, is_set)
WHERE is_set AND n.nspname = ANY(:schemas) AND NOT EXISTS (
  SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = q.oid AND deptype = 'e')
ORDER BY 1, 2

-- types --
SELECT format_type(t.oid, NULL) AS type, CASE typtype WHEN 'e' THEN 'enum' ELSE 'domain' END AS kind,
  (pg_identify_object(t.tableoid, t.oid, 0)).identity AS name, obj_description(t.oid, 'pg_type') IS NOT NULL AS has_comment
FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace
WHERE typtype IN ('d', 'e') AND nspname = ANY(:schemas)
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_type'::regclass AND objid = t.oid AND deptype = 'e')
ORDER BY 1
