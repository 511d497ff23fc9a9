-- is_valid --
SELECT indisvalid FROM pg_index
WHERE indexrelid = to_regclass(:name) AND indrelid = coalesce(to_regclass(CAST(:table AS text)), indrelid)

-- other_schema --
SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE c.oid = to_regclass(CAST(:table AS text)) AND nspname <> current_schema()

-- definition --
SELECT indisunique::text || split_part(pg_get_indexdef(indexrelid), ' USING ', 2) FROM pg_index
WHERE indexrelid = to_regclass(:name) AND indrelid = to_regclass(:table)

-- left_by_rebuilds --
SELECT array_agg(other.indexrelid::regclass::text)
FROM pg_index this JOIN pg_index other ON other.indrelid = this.indrelid
  OR other.indrelid IN (SELECT relid FROM pg_partition_tree(this.indrelid))
JOIN pg_class c ON c.oid = other.indexrelid
WHERE this.indexrelid = to_regclass(:name) AND NOT other.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$'
