CREATE SCHEMA functions;
CREATE TABLE functions.t (id integer, name text);
CREATE FUNCTION functions.later() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM functions.t';
CREATE FUNCTION functions.row(functions.t) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
ALTER TABLE functions.t ADD CONSTRAINT by_row CHECK (functions.row(t.*));
CREATE FUNCTION functions.atomic(a integer) RETURNS integer IMMUTABLE BEGIN ATOMIC
  SELECT CASE WHEN a > 0 THEN 1 ELSE 2 END;
  SELECT a;
END;
CREATE FUNCTION functions.loops(OUT n integer, VARIADIC parts text[] DEFAULT '{a;b}') LANGUAGE plpgsql AS $body$
DECLARE r functions.t%ROWTYPE;
BEGIN -- a comment; 'quote
  n := 1;
  FOR r IN SELECT * FROM functions.t LOOP n := n + 1; END LOOP;
  EXECUTE $sql$ SELECT ':name', '%s' $sql$;
END $body$;
CREATE PROCEDURE functions.act(INOUT a integer) LANGUAGE plpgsql AS 'BEGIN a := 1; COMMIT; END';
CREATE FUNCTION functions.secure() RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path TO 'functions', ''
  SET work_mem = '1MB' COST 5 PARALLEL SAFE RETURN 1;
CREATE FUNCTION functions.many() RETURNS TABLE (a integer, b text) ROWS 7 LANGUAGE sql
  AS 'SELECT id, name FROM functions.t';
CREATE FUNCTION functions.accum(integer, integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2';
CREATE AGGREGATE functions.total(integer)
  (SFUNC = functions.accum, STYPE = integer, INITCOND = '0', PARALLEL = safe);
CREATE AGGREGATE functions.rank(VARIADIC "any" ORDER BY VARIADIC "any")
  (SFUNC = ordered_set_transition_multi, STYPE = internal, FINALFUNC = rank_final, FINALFUNC_EXTRA, HYPOTHETICAL);
CREATE FUNCTION functions.same(integer, integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 = $2';
CREATE FUNCTION functions.less(integer, integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 < $2';
CREATE OPERATOR functions.=== (
  FUNCTION = functions.same, LEFTARG = integer, RIGHTARG = integer, COMMUTATOR = OPERATOR(functions.===)
);
CREATE OPERATOR functions.|< (FUNCTION = functions.less, LEFTARG = integer, RIGHTARG = integer);
CREATE OPERATOR FAMILY functions.family USING btree;
CREATE OPERATOR CLASS functions.class FOR TYPE integer USING hash AS
  OPERATOR 1 functions.===(integer, integer), FUNCTION 1 hashint4(integer);
CREATE FUNCTION functions.handler() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
CREATE LANGUAGE sample HANDLER functions.handler;
CREATE TRANSFORM FOR integer LANGUAGE sql (FROM SQL WITH FUNCTION numeric_support(internal));
CREATE VIEW functions.uses AS
  SELECT functions.total(id) AS total, 1 OPERATOR(functions.===) 2 AS same FROM functions.t;
COMMENT ON FUNCTION functions.later() IS E'a\nb';
COMMENT ON OPERATOR functions.=== (integer, integer) IS 'same';
CREATE FUNCTION functions.key(functions.t) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION functions.noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE INDEX by_row ON functions.t (functions.key(t.*));
ALTER TABLE functions.t ADD EXCLUDE (functions.key(t.*) WITH =);
CREATE TRIGGER by_row BEFORE UPDATE ON functions.t FOR EACH ROW WHEN (functions.row(NEW)) EXECUTE FUNCTION functions.noted();
CREATE POLICY by_row ON functions.t USING (functions.row(t.*));
