-- dependents --
-- What PostgreSQL does not drop along with a table, a column or a constraint (kind), or what prevents another type of a
-- column. A view stands for its rule. What depends on a view follows, at its depth.
WITH RECURSIVE item (number, kind, relation, name) AS (VALUES %(items)s),
family (number, kind, name, oid) AS (
    SELECT number, kind, name, relation::oid FROM item
    UNION SELECT number, kind, name, inhrelid FROM family JOIN pg_inherits ON inhparent = oid
),
removed (number, kind, classid, objid, objsubid) AS (
    SELECT number, kind, 'pg_class'::regclass::oid, relation::oid, 0 FROM item WHERE kind = 'table'
    UNION SELECT number, kind, 'pg_class'::regclass, attrelid, attnum
    FROM family JOIN pg_attribute ON attrelid = oid AND attname = name WHERE kind IN ('column', 'type')
    UNION SELECT number, kind, 'pg_constraint'::regclass, c.oid, 0
    FROM family JOIN pg_constraint c ON conrelid = family.oid AND conname = name WHERE kind = 'constraint'
    UNION SELECT number, kind, 'pg_type'::regclass, t.oid, 0
    FROM family JOIN pg_type t ON typrelid = family.oid WHERE kind = 'type'
    UNION SELECT r.number, r.kind, d.classid, d.objid, d.objsubid
    FROM removed r JOIN pg_depend d
      ON d.refclassid = r.classid AND d.refobjid = r.objid AND r.objsubid IN (0, d.refobjsubid)
    WHERE d.deptype IN ('a', 'i', 'P', 'S')
),
dependent (number, kind, classid, objid, objsubid, depth) AS (
    SELECT r.number, r.kind, o.classid, o.objid, o.objsubid, 1
    FROM removed r JOIN pg_depend d
      ON d.refclassid = r.classid AND d.refobjid = r.objid AND r.objsubid IN (0, d.refobjsubid)
    LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
    CROSS JOIN LATERAL (%(object)s) o
    WHERE d.deptype = 'n'
      AND NOT EXISTS (
        SELECT FROM removed x
        WHERE x.classid = d.classid AND x.objid = d.objid AND x.objsubid IN (0, d.objsubid)
          AND (x.number = r.number OR 'type' NOT IN (x.kind, r.kind))
      )
      AND NOT (r.kind = 'type' AND (  -- PostgreSQL adapts these
        d.classid = 'pg_constraint'::regclass OR r.classid = 'pg_class'::regclass AND r.objsubid = 0
        OR r.classid = 'pg_type'::regclass AND (d.classid = 'pg_proc'::regclass OR c.relkind IS NOT DISTINCT FROM 'v')
      ))
    UNION
    SELECT p.number, p.kind, o.classid, o.objid, o.objsubid, depth + 1
    FROM dependent p
    JOIN pg_class v ON p.classid = 'pg_class'::regclass AND v.oid = p.objid AND v.relkind IN ('v', 'm')
    JOIN pg_type t ON t.oid = v.reltype
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = v.oid AND d.deptype IN ('n', 'a')
      OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray) AND d.deptype = 'n'
    LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
    CROSS JOIN LATERAL (%(object)s) o
    WHERE o.objid <> v.oid AND depth < 100 AND c.relkind IS DISTINCT FROM 'i'
)
SELECT number, type, identity, d.objid, max(depth) AS depth, bool_and(
    d.classid = 'pg_class'::regclass AND c.relkind = 'v' AND c.relpersistence = 'p'
    AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e')
    AND NOT EXISTS (SELECT FROM pg_seclabel l WHERE l.classoid = d.classid AND l.objoid = d.objid)
    AND NOT EXISTS (SELECT FROM aclexplode(c.relacl) WHERE grantor <> c.relowner)
    AND NOT EXISTS (
      SELECT FROM pg_attribute, aclexplode(attacl) WHERE attrelid = c.oid AND grantor <> c.relowner
    )
  ) AS is_plain_view
FROM dependent d LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
CROSS JOIN pg_identify_object(d.classid, d.objid, d.objsubid)
GROUP BY number, d.objid, type, identity
ORDER BY number, depth, identity

-- object --
-- The view, instead of its rule or its column.
SELECT CASE WHEN w.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass END AS classid,
  coalesce(w.ev_class, d.objid) AS objid,
  CASE WHEN w.oid IS NOT NULL OR c.relkind IN ('v', 'm') THEN 0 ELSE d.objsubid END AS objsubid
FROM (VALUES (d.objid)) AS depending (oid)
LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = depending.oid AND w.rulename = '_RETURN'

-- drop_dependent_views --
-- The views are kept in a setting of the session, which needs no privilege, and which a rollback takes back as well. With
-- an empty search path, each name in a definition has its schema.
DO $%(tag)s$
DECLARE
    path CONSTANT text := current_setting('search_path');
    others text;
    views oid[];
    dropped jsonb;
BEGIN
    WITH dependents AS (%(dependents)s)
    SELECT string_agg(DISTINCT format('%%s %%s', type, identity), ', ') FILTER (WHERE NOT is_plain_view),
        array_agg(objid ORDER BY depth)
    INTO others, views FROM dependents;
    IF others IS NOT NULL THEN
        RAISE 'cannot drop and recreate what depends on %%: %%', %(column)s, others USING ERRCODE = '2BP01';
    END IF;
    PERFORM set_config('search_path', '', true);
    SELECT jsonb_agg(jsonb_build_object(
        'name', view,
        'create', format('CREATE VIEW %%s%%s AS %%s', view,
            ' WITH (' || array_to_string(reloptions, ', ') || ')', pg_get_viewdef(c.oid)),
        'owner', format('ALTER VIEW %%s OWNER TO %%I', view, pg_get_userbyid(relowner)),
        'properties', ARRAY(
            SELECT format('GRANT %%s%%s ON %%s TO %%s%%s', privilege_type, ' (' || quote_ident(attname) || ')', view,
                CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
                CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
            FROM (
                SELECT NULL AS attname, coalesce(relacl, acldefault('r', relowner)) AS acl
                UNION ALL SELECT attname, attacl FROM pg_attribute WHERE attrelid = c.oid
            ) AS granted, aclexplode(acl)
            UNION ALL
            SELECT format('COMMENT ON %%s IS %%L',
                CASE objsubid WHEN 0 THEN 'VIEW ' || view ELSE format('COLUMN %%s.%%I', view, attname) END, description)
            FROM pg_description LEFT JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid AND attnum > 0
            WHERE classoid = 'pg_class'::regclass AND objoid = c.oid
        )
    ) ORDER BY place) INTO dropped
    FROM unnest(views) WITH ORDINALITY AS listed (oid, place) JOIN pg_class c USING (oid)
    CROSS JOIN LATERAL (SELECT c.oid::regclass::text) AS named (view);
    IF views IS NOT NULL THEN
        EXECUTE 'DROP VIEW ' || (SELECT string_agg(view::regclass::text, ', ') FROM unnest(views) AS view);
    END IF;
    PERFORM set_config('search_path', path, true);
    dropped := coalesce(dropped, '[]')
        || coalesce(nullif(current_setting('safe_migrations.dropped_views', true), ''), '[]')::jsonb;
    PERFORM set_config('safe_migrations.dropped_views', dropped::text, false);
END
$%(tag)s$

-- recreate_dependent_views --
-- What default privileges grant on a new view is revoked first.
DO $$
DECLARE
    path CONSTANT text := current_setting('search_path');
    dropped CONSTANT text := nullif(current_setting('safe_migrations.dropped_views', true), '');
    view jsonb;
    statement text;
BEGIN
    IF dropped IS NULL THEN
        RAISE 'op.drop_dependent_views has not run before op.recreate_dependent_views' USING ERRCODE = '55000';
    END IF;
    PERFORM set_config('search_path', '', true);
    FOR view IN SELECT jsonb_array_elements(dropped::jsonb) LOOP
        EXECUTE view ->> 'create';
        EXECUTE view ->> 'owner';
        FOR statement IN
            SELECT DISTINCT format('REVOKE ALL ON %%s FROM %%s', oid::regclass,
                CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)
            FROM pg_class, aclexplode(relacl) WHERE oid = (view ->> 'name')::regclass
        LOOP EXECUTE statement; END LOOP;
        FOR statement IN SELECT jsonb_array_elements_text(view -> 'properties') LOOP EXECUTE statement; END LOOP;
    END LOOP;
    PERFORM set_config('search_path', path, true);
    PERFORM set_config('safe_migrations.dropped_views', '', false);
END
$$
