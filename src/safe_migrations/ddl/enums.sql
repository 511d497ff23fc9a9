-- replace_enum --
-- A default, a check or an index that names a value of the old type would not fit the new one. Each is dropped, and
-- created again from its definition, in which both types have the same name. The server does this, so that it works
-- offline as well.
DO $%(tag)s$
DECLARE
    old_type CONSTANT regtype := %(name)s;
    old_array CONSTANT regtype := (SELECT typarray FROM pg_type WHERE oid = old_type);
    drops text[];
    changes text[];
    creates text[];
    statement text;
BEGIN
    WITH used AS (
        SELECT classid, objid FROM pg_depend
        WHERE refclassid = 'pg_type'::regclass AND refobjid IN (old_type, old_array)
    ), made (dropped, created) AS (
        SELECT format('ALTER TABLE ONLY %%s ALTER %%I DROP DEFAULT', adrelid::regclass, attname),
            format('ALTER TABLE ONLY %%s ALTER %%I SET DEFAULT %%s',
                adrelid::regclass, attname, pg_get_expr(adbin, adrelid))
        FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
        WHERE pg_attrdef.oid IN (SELECT objid FROM used WHERE classid = 'pg_attrdef'::regclass)
        UNION ALL
        SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', conrelid::regclass, conname),
            format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(oid))
        FROM pg_constraint
        WHERE coninhcount = 0 AND oid IN (SELECT objid FROM used WHERE classid = 'pg_constraint'::regclass)
            OR conindid IN (SELECT objid FROM used WHERE classid = 'pg_class'::regclass)
        UNION ALL
        SELECT format('DROP INDEX %%s', oid::regclass), pg_get_indexdef(oid)
        FROM pg_class
        WHERE relkind = 'i' AND oid IN (SELECT objid FROM used WHERE classid = 'pg_class'::regclass)
            AND oid NOT IN (SELECT conindid FROM pg_constraint)
    )
    SELECT array_agg(dropped), array_agg(created) INTO drops, creates FROM made;
    WITH made (changed) AS (
        SELECT format('ALTER TABLE %%s ', attrelid::regclass) || string_agg(
            format('ALTER %%1$I TYPE %%2$s USING %%1$I::text::%%2$s',
                attname, %(name)s || CASE atttypid WHEN old_array THEN '[]' ELSE '' END), ', ')
        FROM (VALUES %(columns)s) AS listed (relation, name) JOIN pg_attribute ON attrelid = relation AND attname = name
        WHERE atttypid IN (old_type, old_array)
        GROUP BY attrelid
    )
    SELECT array_agg(changed) INTO changes FROM made;
    FOREACH statement IN ARRAY coalesce(drops, '{}') LOOP EXECUTE statement; END LOOP;
    ALTER TYPE %(type)s RENAME TO safe_migrations_replaced;
    CREATE TYPE %(type)s AS ENUM (%(values)s);
    FOREACH statement IN ARRAY coalesce(changes, '{}') LOOP EXECUTE statement; END LOOP;
    EXECUTE format('DROP TYPE %%s', old_type);
    FOREACH statement IN ARRAY coalesce(creates, '{}') LOOP EXECUTE statement; END LOOP;
END
$%(tag)s$
