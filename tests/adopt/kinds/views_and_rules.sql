CREATE SCHEMA rules;
CREATE TABLE rules.t (id integer PRIMARY KEY, name text, owner text);
CREATE TABLE rules.log (id integer, what text);
CREATE VIEW rules.v WITH (security_barrier, security_invoker) AS
  SELECT * FROM rules.t WHERE id > 0 WITH LOCAL CHECK OPTION;
ALTER VIEW rules.v ALTER id SET DEFAULT 3;
CREATE VIEW rules.on_view AS SELECT id, name || 'x' AS name FROM rules.v;
CREATE VIEW rules.below AS SELECT 1 AS a;
CREATE VIEW rules.above AS SELECT * FROM rules.below;
CREATE OR REPLACE VIEW rules.below AS SELECT a FROM (SELECT 1 AS a) AS b;
CREATE VIEW rules.by_key AS SELECT t.id, t.name, count(*) FROM rules.t GROUP BY t.id;
CREATE RECURSIVE VIEW rules.numbers (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM numbers WHERE n < 5;
CREATE MATERIALIZED VIEW rules.m WITH (fillfactor = 50) AS SELECT id, count(*) AS n FROM rules.v GROUP BY id;
CREATE MATERIALIZED VIEW rules.unfilled AS SELECT n FROM rules.m WITH NO DATA;
CREATE UNIQUE INDEX ON rules.m (id);
CREATE RULE logged AS ON UPDATE TO rules.t WHERE OLD.id <> NEW.id DO ALSO
  (INSERT INTO rules.log VALUES (OLD.id, 'a;b'); DELETE FROM rules.log WHERE id = OLD.id);
CREATE RULE through AS ON INSERT TO rules.on_view DO INSTEAD INSERT INTO rules.t VALUES (NEW.id, NEW.name);
CREATE FUNCTION rules.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := 'x;'; RETURN NEW; END $$;
CREATE TRIGGER touched BEFORE INSERT OR UPDATE OF name ON rules.t FOR EACH ROW WHEN (NEW.id > 0)
  EXECUTE FUNCTION rules.touch('a;b', 'it''s');
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON rules.t DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION rules.touch();
CREATE TRIGGER instead INSTEAD OF DELETE ON rules.on_view FOR EACH ROW EXECUTE FUNCTION rules.touch();
CREATE TRIGGER statements AFTER DELETE ON rules.t REFERENCING OLD TABLE AS gone EXECUTE FUNCTION rules.touch();
CREATE TRIGGER off AFTER DELETE ON rules.log EXECUTE FUNCTION rules.touch();
ALTER TABLE rules.log DISABLE TRIGGER off;
ALTER TABLE rules.t ENABLE ALWAYS TRIGGER touched;
ALTER TABLE rules.t DISABLE RULE logged;
ALTER TABLE rules.t ENABLE ROW LEVEL SECURITY;
ALTER TABLE rules.t FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON rules.t USING (owner = CURRENT_USER) WITH CHECK (owner = CURRENT_USER);
CREATE POLICY reading ON rules.t AS RESTRICTIVE FOR SELECT TO PUBLIC
  USING (EXISTS (SELECT FROM rules.log WHERE log.id = t.id));
CREATE TABLE rules.parts (id integer, day date) PARTITION BY RANGE (day);
CREATE TABLE rules.part PARTITION OF rules.parts DEFAULT;
CREATE TRIGGER on_parts BEFORE INSERT ON rules.parts FOR EACH ROW EXECUTE FUNCTION rules.touch();
ALTER TABLE rules.part DISABLE TRIGGER on_parts;
COMMENT ON VIEW rules.v IS 'v';
COMMENT ON TRIGGER touched ON rules.t IS 't';
COMMENT ON POLICY own ON rules.t IS 'p';
