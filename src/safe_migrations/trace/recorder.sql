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
