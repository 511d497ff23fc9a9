-- tables --
-- Alembic's version table has this one column, whatever its name.
SELECT n.nspname AS schema, c.relname AS name, coalesce(
    (SELECT CASE WHEN c.relispartition THEN 'partitions of ' ELSE 'children of ' END || inhparent::regclass
     FROM pg_inherits WHERE inhrelid = c.oid LIMIT 1),
    (SELECT 'the extension ' || extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
     WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'),
    (SELECT 'Alembic' FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
     HAVING array_agg(attname::text) = ARRAY['version_num'])
  ) AS owner
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 1, 2

-- inherited --
-- What a table has from its parent, constraints of the kinds that SQLAlchemy does not have, and foreign keys with the
-- table that they refer to.
SELECT n.nspname AS schema, c.relname AS table, o.name, NULL AS referred_schema, NULL AS referred_table
FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
  SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attinhcount > 0
  UNION ALL SELECT i.relname::text FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
    WHERE x.indrelid = c.oid AND i.relispartition
  UNION ALL SELECT conname::text FROM pg_constraint WHERE conrelid = c.oid AND (coninhcount > 0 OR conparentid <> 0)
) AS o (name)
WHERE c.relkind IN ('r', 'p')
UNION ALL
SELECT n.nspname, c.relname, conname, NULL, NULL
FROM pg_constraint o JOIN pg_class c ON c.oid = conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index ON indexrelid = conindid
WHERE conparentid <> 0  -- for each partition that a foreign key refers to
  OR (contype = 'c' AND connoinherit AND relkind = 'r') OR (contype = 'x' AND indnatts > indnkeyatts)
  OR to_jsonb(o) ->> 'conenforced' = 'false' OR to_jsonb(o) ->> 'conperiod' = 'true'
UNION ALL
SELECT n.nspname, c.relname, conname, rn.nspname, r.relname
FROM pg_constraint JOIN pg_class c ON c.oid = conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class r ON r.oid = confrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace
WHERE contype = 'f' AND conparentid = 0
