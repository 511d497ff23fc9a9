-- is_missing --
SELECT to_regnamespace(quote_ident(:name)) IS NULL

-- is_empty --
SELECT EXISTS (
  SELECT FROM pg_namespace n WHERE nspname = :name AND pg_has_role(nspowner, 'USAGE') AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid
  )
)
