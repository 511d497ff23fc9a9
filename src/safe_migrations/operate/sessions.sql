-- waits --
SELECT a.pid, b.pid AS blocker, l.mode || ' on ' || CASE
    WHEN l.relation IS NULL THEN 'a ' || l.locktype
    WHEN a.datname = current_database() THEN l.relation::regclass::text
    ELSE 'a table of another database' END AS lock
FROM pg_stat_activity a CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS b (pid)
LEFT JOIN pg_locks l ON l.pid = a.pid AND NOT l.granted
ORDER BY 1, 2

-- blocking --
-- Idle in transaction: keeps its locks. An advisory lock: another migration may hold it.
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND (
  state LIKE 'idle in transaction%'
  OR pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted)
  OR pid IN (SELECT unnest(pg_blocking_pids(w.pid)) FROM pg_locks w WHERE NOT w.granted)
)
ORDER BY xact_start

-- is_of_this_database --
SELECT datname = current_database() FROM pg_stat_activity WHERE pid = :pid
