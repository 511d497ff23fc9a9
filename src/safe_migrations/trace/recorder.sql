-- locks --
-- Also the locks that the session waits for: it will hold them.
SELECT relation::bigint AS oid, mode FROM pg_locks
WHERE pid = :pid AND relation = ANY(CAST(:oids AS oid[])) AND locktype = 'relation'

-- session --
-- Of the scans, what the session has counted and not reported yet, and what it has reported.
SELECT oid::bigint, pg_stat_get_numscans(oid) + pg_stat_get_xact_numscans(oid) AS scans,
  pg_relation_filenode(oid) AS file, modes
FROM unnest(CAST(:oids AS oid[])) AS oid LEFT JOIN (
  SELECT relation, array_agg(mode) AS modes FROM pg_locks
  WHERE pid = pg_backend_pid() AND locktype = 'relation' GROUP BY relation
) held ON relation = oid

-- begun --
SELECT transaction_timestamp()

-- indexes --
SELECT indexrelid::bigint, indrelid::bigint FROM pg_index WHERE indrelid = ANY(CAST(:oids AS oid[]))

-- tables --
-- Without Alembic's table and those of the backfills, which hold no data of the service.
SELECT c.oid::bigint AS oid, c.oid::regclass::text AS name, c.relkind::text AS kind, pg_relation_filenode(c.oid) AS file
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname !~ '^pg_' AND c.relname <> :version_table
  AND n.nspname NOT IN ('information_schema', 'safe_migrations')

-- columns --
SELECT attrelid::bigint AS oid, attnum AS number, quote_ident(attname) AS name, attnotnull AS required,
  atthasdef OR attidentity <> '' AS filled
FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped AND attrelid = ANY(CAST(:oids AS oid[]))

-- foreign_keys --
SELECT oid::bigint, conrelid::bigint, confrelid::bigint FROM pg_constraint WHERE contype = 'f'

-- children --
-- Also of indexes.
SELECT inhrelid::bigint, inhparent::bigint FROM pg_inherits
