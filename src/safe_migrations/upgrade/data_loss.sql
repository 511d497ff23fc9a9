-- has_code --
SELECT EXISTS (
  SELECT FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace
  WHERE proname = ANY(CAST(:names AS text[])) AND nspname NOT IN ('pg_catalog', 'information_schema')
) OR EXISTS (
  SELECT FROM pg_class c WHERE c.oid = to_regclass(:table) AND (
    EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D')
    OR EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type <> '1')
  )
)

-- has_type_in_use --
SELECT EXISTS (
  SELECT FROM pg_type t JOIN pg_depend d ON d.refobjid IN (t.oid, t.typarray)
  WHERE t.typrelid = to_regclass(:table) AND d.refclassid = 'pg_type'::regclass AND d.deptype = 'n'
    AND d.classid <> 'pg_proc'::regclass
)

-- column --
SELECT attname, format_type(atttypid, NULL) AS type,
  information_schema._pg_char_max_length(atttypid, atttypmod) AS length
FROM pg_attribute
WHERE attrelid = to_regclass(:table) AND attname = (parse_ident(:column))[1] AND NOT attisdropped
