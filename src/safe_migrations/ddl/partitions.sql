-- is_partitioned --
SELECT relkind IN ('p', 'I') FROM pg_class WHERE oid = to_regclass(:name)

-- foreign --
SELECT array_agg(relid::regclass::text ORDER BY relid::regclass::text)
FROM pg_partition_tree(to_regclass(:table)) JOIN pg_class c ON c.oid = relid WHERE relkind = 'f'

-- partitions --
SELECT n.nspname AS schema, c.relname AS name, own.relname AS own, coalesce(own.indisvalid, false) AS is_valid,
  ARRAY(
    SELECT i.relname::text FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
    WHERE x.indrelid = c.oid AND i.relispartition
  ) AS taken
FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
  SELECT i.relname, x.indisvalid FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
  JOIN pg_inherits hi ON hi.inhrelid = i.oid AND hi.inhparent = to_regclass(:index) WHERE x.indrelid = c.oid
) AS own ON true
WHERE h.inhparent = to_regclass(:table) AND NOT h.inhdetachpending
ORDER BY 1, 2
