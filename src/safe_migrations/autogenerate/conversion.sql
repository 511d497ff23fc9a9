-- files --
SELECT c.relfilenode AS file, split_part(pg_get_indexdef(indexrelid), ' USING ', 2) AS definition
FROM pg_class c LEFT JOIN pg_index ON indexrelid = c.oid
WHERE to_regclass(:table) IN (c.oid, indrelid)

-- scans --
SELECT pg_stat_get_xact_numscans(to_regclass(:table))

-- indexes --
SELECT indexrelid::regclass::text FROM pg_index
WHERE indrelid = to_regclass(:table) AND split_part(pg_get_indexdef(indexrelid), ' USING ', 2) = ANY(:definitions)
ORDER BY 1
