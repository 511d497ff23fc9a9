-- waits --
SELECT a.pid, b.pid AS blocker, l.mode || ' on ' || CASE
    WHEN l.relation IS NULL THEN 'a ' || l.locktype
    WHEN a.datname = current_database() THEN l.relation::regclass::text
    ELSE 'a table of another database' END AS lock
FROM pg_stat_activity a CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS b (pid)
LEFT JOIN pg_locks l ON l.pid = a.pid AND NOT l.granted
ORDER BY 1, 2

-- blocking --
-- Idle in transaction: keeps its locks. An advisory lock: a migration by another program may hold it. This library's
-- sessions that hold one are those of a running migration, which count where they block another session.
WITH advisory AS (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted)
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND (
  state LIKE 'idle in transaction%' AND NOT (application_name = :own AND pid IN (SELECT pid FROM advisory))
  OR application_name <> :own AND pid IN (SELECT pid FROM advisory)
  OR pid IN (SELECT unnest(pg_blocking_pids(w.pid)) FROM pg_locks w WHERE NOT w.granted)
)
ORDER BY xact_start

-- is_of_this_database --
SELECT datname = current_database() FROM pg_stat_activity WHERE pid = :pid
