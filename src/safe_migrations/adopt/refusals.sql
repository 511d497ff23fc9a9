-- not_reproducible --
-- What a revision can't make, or what would write a secret into its file; members of extensions are theirs.
SELECT kind, format('%I', name) AS name, why FROM (
  SELECT 'event trigger' AS kind, evtname::text AS name, 'only a superuser may create one' AS why, e.oid,
    'pg_event_trigger'::regclass AS catalog
  FROM pg_event_trigger e
  UNION ALL
  SELECT 'publication', pubname, 'replication belongs to the platform', oid, 'pg_publication'::regclass
  FROM pg_publication
  UNION ALL
  SELECT 'subscription', subname, 'replication belongs to the platform, and the connection contains a password', oid,
    'pg_subscription'::regclass
  FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  UNION ALL
  SELECT 'user mapping', format('%s of the server %s', usename, srvname), 'it may contain a password', umid,
    'pg_user_mapping'::regclass
  FROM pg_user_mappings
  UNION ALL
  SELECT 'foreign server', srvname, 'its options have a secret', s.oid, 'pg_foreign_server'::regclass
  FROM pg_foreign_server s WHERE array_to_string(srvoptions, ' ') ~* '(pass|pwd|secret|token|key|auth|cred)[^ =]*='
  UNION ALL
  SELECT 'foreign-data wrapper', fdwname, 'its options have a secret', w.oid, 'pg_foreign_data_wrapper'::regclass
  FROM pg_foreign_data_wrapper w WHERE array_to_string(fdwoptions, ' ') ~* '(pass|pwd|secret|token|key|auth|cred)[^ =]*='
  UNION ALL
  SELECT 'foreign table', ftrelid::regclass::text, 'its options have a secret', ftrelid, 'pg_class'::regclass
  FROM pg_foreign_table JOIN pg_class c ON c.oid = ftrelid
  WHERE (
    array_to_string(ftoptions, ' ') ~* '(pass|pwd|secret|token|auth|cred)[^ =]*=' OR EXISTS (
      SELECT FROM pg_attribute WHERE attrelid = ftrelid AND array_to_string(attfdwoptions, ' ') ~* '(pass|pwd|secret|token)[^ =]*='
    )
  )
    AND (cardinality(CAST(:schemas AS text[])) = 0 OR (SELECT nspname::text FROM pg_namespace n WHERE n.oid = relnamespace) = ANY(CAST(:schemas AS text[])))
  UNION ALL
  SELECT 'large objects', count(*)::text, 'large objects are data outside of tables', 0, 'pg_largeobject'::regclass
  FROM pg_largeobject_metadata HAVING count(*) > 0
) AS objects
WHERE (cardinality(CAST(:schemas AS text[])) = 0 OR kind = 'foreign table') AND NOT EXISTS (
  SELECT FROM pg_depend d WHERE d.classid = objects.catalog AND d.objid = objects.oid AND d.deptype = 'e'
)
ORDER BY 1, 2

-- settings --
-- What belongs to the database, or to a role, and no statement of pg_dump could make elsewhere.
WITH database AS (SELECT oid, datname, datacl, datdba FROM pg_database WHERE datname = current_database())
SELECT 'owner of' AS kind, pg_describe_object(classid, objid, objsubid) AS name,
  format('the owner is %s, but a baseline creates objects for the user that migrates', refobjid::regrole) AS why
FROM pg_shdepend, database
WHERE dbid = database.oid AND deptype = 'o' AND refobjid <> (SELECT oid FROM pg_roles WHERE rolname = current_user)
  AND classid <> 'pg_default_acl'::regclass
UNION ALL
SELECT 'default privileges of', defaclrole::regrole::text, 'these privileges name the user that migrates' FROM pg_default_acl
UNION ALL
SELECT 'privileges on', 'the database', 'a baseline does not know the name of the database' FROM database WHERE datacl IS NOT NULL
UNION ALL
SELECT 'setting of', 'the database', array_to_string(setconfig, ', ') FROM pg_db_role_setting, database
WHERE setdatabase = database.oid
ORDER BY 1, 2

-- version_tables --
-- Alembic's version table has this one column, whatever its name.
SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND (
    SELECT array_agg(attname::text) = ARRAY['version_num'] FROM pg_attribute
    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
  )
ORDER BY 1, 2

-- missing_schemas --
SELECT wanted FROM unnest(CAST(:names AS text[])) AS wanted WHERE to_regnamespace(quote_ident(wanted)) IS NULL

-- extensions --
SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1

-- roles_of_policies --
SELECT DISTINCT rolname FROM pg_policy p CROSS JOIN unnest(polroles) AS role JOIN pg_roles r ON r.oid = role
JOIN pg_class c ON c.oid = polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE cardinality(CAST(:schemas AS text[])) = 0 OR n.nspname = ANY(CAST(:schemas AS text[]))
ORDER BY 1

-- lacking_extensions --
-- On the server of the scratch database, whose user may not create each of them.
SELECT wanted FROM unnest(CAST(:names AS text[])) AS wanted
WHERE NOT EXISTS (
  SELECT FROM pg_available_extension_versions v WHERE v.name = wanted
    AND (NOT v.superuser OR v.trusted OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user))
)

-- lacking_roles --
SELECT wanted FROM unnest(CAST(:names AS text[])) AS wanted
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted)

-- is_read_only --
-- Beside the transaction that asks this.
SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean

-- may_create_table --
-- No if there is no schema in search_path; null if the schema is created before.
SELECT CASE WHEN CAST(:schema AS text) IS NULL THEN current_schema() IS NOT NULL AND has_schema_privilege(current_schema(), 'CREATE')
  ELSE has_schema_privilege(to_regnamespace(quote_ident(:schema)), 'CREATE') END

-- may_create_databases --
SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user

-- relations --
-- A transaction that creates or drops them all locks each of them.
SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid >= 16384 AND n.nspname NOT IN ('pg_catalog', 'information_schema')

-- locks --
-- How many locks the server has room for, see https://www.postgresql.org/docs/current/runtime-config-locks.html
SELECT current_setting('max_locks_per_transaction')::integer
  * (current_setting('max_connections')::integer + current_setting('max_prepared_transactions')::integer)
