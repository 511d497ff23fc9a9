-- as_one_block --
-- A block of PL/pgSQL: each script in a subtransaction of its own, whose error is noted in a setting.
SELECT format('DO %L', 'BEGIN PERFORM set_config(''safe_migrations.failures'', ''{}'', true); ' || string_agg(format(
  'BEGIN EXECUTE %L; EXCEPTION WHEN OTHERS THEN PERFORM set_config(''safe_migrations.failures'', '
  '(current_setting(''safe_migrations.failures'')::jsonb || jsonb_build_object(%L, SQLERRM))::text, true); END; ',
  script, name), '') || 'END')
FROM unnest(CAST(:names AS text[]), CAST(:scripts AS text[])) AS scripts (name, script)

-- failures --
SELECT CAST(current_setting('safe_migrations.failures') AS jsonb)
