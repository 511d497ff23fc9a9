-- existing --
-- Not to_regclass, which may still return what it found before the lock was free.
SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = 'safe_migrations') AS schema,
  (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
   WHERE nspname = 'safe_migrations' AND relname = :table
     AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')) AS table

-- privileges --
SELECT current_user AS role, current_database() AS database, n.oid IS NOT NULL AS schema, CASE
  WHEN n.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE')
  WHEN c.oid IS NULL THEN has_schema_privilege(n.oid, 'CREATE') AND has_schema_privilege(n.oid, 'USAGE')
  ELSE has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
    AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'DELETE')
  END AS sufficient
FROM (VALUES (1)) AS one LEFT JOIN pg_namespace n ON nspname = 'safe_migrations'
LEFT JOIN pg_class c ON relnamespace = n.oid AND relname = :table
