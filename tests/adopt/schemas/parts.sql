-- Every kind of index, constraint and table, and what belongs to tables.
CREATE SCHEMA IF NOT EXISTS app;
CREATE EXTENSION pg_trgm;
CREATE EXTENSION btree_gist;
CREATE TABLE indexed (id int PRIMARY KEY, t text, u text, j jsonb, r int4range, p point, arr int[]);
COMMENT ON TABLE indexed IS 'An index – with “quotes”, a %, a :colon and a very long text that goes on and on, so that no line of a hundred and twenty characters can hold it';
CREATE INDEX i1 ON indexed USING gin (t gin_trgm_ops, j);
CREATE INDEX i2 ON indexed USING gist (t gist_trgm_ops (siglen = 32), r);
CREATE INDEX i3 ON indexed USING spgist (p);
CREATE INDEX i4 ON indexed USING hash (t);
CREATE UNIQUE INDEX i5 ON indexed (lower(t), (CASE WHEN u = 'a
b' THEN 1 ELSE 2 END)) INCLUDE (id, u) NULLS NOT DISTINCT WITH (fillfactor = 70) WHERE u IS NOT NULL AND t LIKE '%:x%';
CREATE INDEX i6 ON indexed ((j ->> 'a:b'), (j -> 'c'));
CREATE INDEX i7 ON indexed (t COLLATE "C" text_pattern_ops DESC NULLS LAST, (lower(u)) COLLATE "C" DESC, id NULLS FIRST);
CREATE INDEX i8 ON indexed USING brin (id int4_minmax_multi_ops (values_per_range = 16));
CREATE INDEX i9 ON indexed (substr(t, 1, 3), md5(u) varchar_pattern_ops, t text_pattern_ops, u);
COMMENT ON INDEX i9 IS 'slow';
ALTER INDEX i6 ALTER COLUMN 2 SET STATISTICS 500;
CREATE TABLE checked (
    a int CHECK (a > 0), b text CHECK (b IN ('x', 'y')), c boolean, d int CHECK (d IN (0, 1)),
    CONSTRAINT "odd name: 5%" CHECK (b <> 'a:b'),
    CONSTRAINT long CHECK (CASE WHEN a > 1 THEN b = 'x' WHEN a > 2 THEN b LIKE '%y%' ELSE b ~ E'\\:foo \n' AND length(b) < 100000
        AND b NOT IN ('aaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'ccccccccccccccccccccccccccccccc') END)
);
ALTER TABLE checked ADD CONSTRAINT not_valid CHECK (a < 100) NOT VALID;
ALTER TABLE checked ADD CONSTRAINT no_inherit CHECK (a < 200) NO INHERIT;
COMMENT ON CONSTRAINT not_valid ON checked IS 'said "so": it''s 5%';
CREATE TABLE key_in_another_order (a int, b int, c int, PRIMARY KEY (c, a));
CREATE TABLE refers_to_it (x int, y int, FOREIGN KEY (x, y) REFERENCES key_in_another_order MATCH FULL ON DELETE SET NULL (x));
CREATE TABLE uniques (
    a int UNIQUE DEFERRABLE INITIALLY DEFERRED, b int UNIQUE, c int PRIMARY KEY DEFERRABLE, d int, e int,
    UNIQUE (d) INCLUDE (e), UNIQUE NULLS NOT DISTINCT (e)
);
COMMENT ON CONSTRAINT uniques_pkey ON uniques IS 'key';
COMMENT ON CONSTRAINT uniques_b_key ON uniques IS 'unique';
CREATE TABLE with_options (id int PRIMARY KEY WITH (fillfactor = 60), u int UNIQUE WITH (fillfactor = 50));
CREATE TABLE cycle_a (id int PRIMARY KEY, b int);
CREATE TABLE cycle_b (id int PRIMARY KEY, a int REFERENCES cycle_a);
ALTER TABLE cycle_a ADD FOREIGN KEY (b) REFERENCES cycle_b DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE cycle_a ADD CONSTRAINT not_valid FOREIGN KEY (id) REFERENCES cycle_b ON UPDATE SET DEFAULT NOT VALID;
CREATE TABLE self (
    id int PRIMARY KEY, parent int REFERENCES self ON DELETE CASCADE, tenant int, UNIQUE (tenant, id),
    FOREIGN KEY (tenant, parent) REFERENCES self (tenant, id)
);
CREATE TABLE two_on_one (a int CONSTRAINT one REFERENCES cycle_a CONSTRAINT two REFERENCES cycle_b, id int PRIMARY KEY);
CREATE TABLE excluded (
    id int PRIMARY KEY, r tstzrange, room int,
    EXCLUDE USING gist (room WITH =, r WITH &&) WHERE (room > 5) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT e2 EXCLUDE (room WITH =),
    CONSTRAINT e3 EXCLUDE USING gist (tstzrange(lower(r), upper(r), '[]') WITH &&),
    CONSTRAINT e4 EXCLUDE USING gist (r range_ops WITH OPERATOR(pg_catalog.&&)) INCLUDE (id)
);
COMMENT ON CONSTRAINT e2 ON excluded IS 'once';
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY) WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false);
CREATE TABLE parent (id int PRIMARY KEY, a int);
CREATE TABLE child (b int) INHERITS (parent);
CREATE TABLE by_range (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE by_range_1 PARTITION OF by_range FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE by_range_2 PARTITION OF by_range FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
CREATE INDEX ON by_range (at);
CREATE INDEX incomplete ON ONLY by_range (id);
CREATE TABLE refers_to_partition (id int PRIMARY KEY, at date, FOREIGN KEY (id, at) REFERENCES by_range_1);
CREATE TABLE refers_to_partitions (id int, at date, FOREIGN KEY (id, at) REFERENCES by_range);
CREATE TABLE by_hash (k text, v int) PARTITION BY HASH (lower(k), v);
CREATE TYPE person AS (name text, age int);
CREATE TABLE typed OF person (PRIMARY KEY (name));
CREATE TABLE schema_migrations (version text PRIMARY KEY);
CREATE UNLOGGED TABLE unlogged_serial (id serial PRIMARY KEY);

CREATE TABLE app.account (id int PRIMARY KEY, tenant int NOT NULL, big text, x int);
CREATE FUNCTION app.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE PROCEDURE app.p() LANGUAGE sql AS '';
CREATE AGGREGATE app.total(int) (sfunc = int4pl, stype = int);
CREATE OPERATOR app.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
CREATE TEXT SEARCH CONFIGURATION app.german (COPY = german);
CREATE TEXT SEARCH DICTIONARY app.dictionary (TEMPLATE = simple);
CREATE STATISTICS app.statistics ON tenant, x FROM app.account;
ALTER TABLE app.account ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant_only ON app.account USING (tenant = current_setting('app.tenant')::int);
CREATE RULE no_delete AS ON DELETE TO app.account DO INSTEAD NOTHING;
CREATE TRIGGER t1 BEFORE UPDATE ON app.account FOR EACH ROW EXECUTE FUNCTION app.f();
CREATE CONSTRAINT TRIGGER t2 AFTER INSERT ON app.account DEFERRABLE FOR EACH ROW EXECUTE FUNCTION app.f();
ALTER TABLE app.account DISABLE TRIGGER t1;
ALTER TABLE app.account ALTER big SET STORAGE EXTERNAL, ALTER big SET COMPRESSION pglz, ALTER x SET STATISTICS 500, ALTER x SET (n_distinct = 5);
CREATE INDEX account_x ON app.account (x);
ALTER TABLE app.account CLUSTER ON account_x;
ALTER TABLE app.account REPLICA IDENTITY FULL;
CREATE VIEW app.accounts AS SELECT id FROM app.account;
CREATE MATERIALIZED VIEW app.counted AS SELECT count(*) AS n FROM app.account;
CREATE INDEX counted_n ON app.counted (n);
