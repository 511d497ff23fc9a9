-- own_relations --
-- Members of extensions are theirs, temporary tables a session's; safe_migrations has the progress of backfills.
SELECT format('%I.%I', n.nspname, c.relname) AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = ANY(CAST(:kinds AS text[])) AND n.nspname !~ '^pg_'
  AND n.nspname NOT IN ('information_schema', 'safe_migrations')
  AND NOT (c.relname = :table AND n.nspname = coalesce(:schema, n.nspname))
  AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
  )
ORDER BY 1

-- relation --
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass(:name)

-- invalid_indexes --
-- Not an index that a session is building now; nor that of a partitioned table, which is invalid until each partition
-- has its own. A rebuild's index has the name of the replaced one, shortened if the suffix would make it too long.
SELECT format('%I.%I', n.nspname, i.relname) AS name, x.indrelid::regclass::text AS owner, i.relname,
  ARRAY(
    SELECT r.relname::text FROM pg_index y JOIN pg_class o ON o.oid = y.indexrelid
    JOIN pg_class r ON r.oid = o.oid OR r.oid IN (SELECT relid FROM pg_partition_ancestors(o.oid))
    WHERE y.indrelid = x.indrelid AND i.relname <> base
      AND (o.relname = base OR (octet_length(i.relname) >= 60 AND starts_with(o.relname, base)))
  ) AS replaced
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
CROSS JOIN regexp_replace(i.relname, '_cc(new|old)[0-9]*$', '') AS base
WHERE NOT x.indisvalid AND i.relkind = 'i' AND n.nspname !~ '^pg_(toast|temp)'
  AND NOT EXISTS (
    SELECT FROM pg_stat_progress_create_index p JOIN pg_locks l USING (pid)
    WHERE l.relation = x.indrelid AND l.mode = 'ShareUpdateExclusiveLock'
  )
ORDER BY 1

-- transactions_of_index --
-- Not those of VACUUM and of other builds, which the operation itself waits for before it changes anything.
SELECT virtualtransaction, coalesce(pid, 0) AS pid FROM pg_locks
WHERE locktype = 'relation' AND granted AND pid IS DISTINCT FROM pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND relation IN (
    SELECT unnest(used || ARRAY(SELECT relid::oid FROM pg_partition_tree(used)))
    FROM CAST(coalesce(
      to_regclass(CAST(:table AS text)), (SELECT indrelid FROM pg_index WHERE indexrelid = to_regclass(:name))
    ) AS oid) AS used
  )
  AND mode = ANY(CASE WHEN :readers
    THEN ARRAY['AccessShareLock', 'RowShareLock', 'RowExclusiveLock'] ELSE ARRAY['RowExclusiveLock'] END)

-- advisory_lock_holders --
-- pg_locks shows a lock on a bigint as two halves, see https://www.postgresql.org/docs/current/view-pg-locks.html
SELECT pid FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid <> pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (classid::bigint << 32) | objid::bigint = :key

-- prepared_transactions --
SELECT format('ROLLBACK PREPARED %L;', gid) AS command, gid, owner,
  extract(epoch FROM clock_timestamp() - prepared)::float8 AS age,
  to_char(prepared, 'YYYY-MM-DD HH24:MI:SS TZ') AS since
FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared

-- sessions --
SELECT p.pid, a.usename, a.application_name, a.state,
  extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.backend_start))::float8 AS age, a.query,
  to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ') AS since,
  host(a.client_addr) AS client
FROM unnest(CAST(:pids AS integer[])) AS p (pid) LEFT JOIN pg_stat_activity a ON a.pid = p.pid
