CREATE SCHEMA types;
CREATE TYPE types.mood AS ENUM ('sad', 'so ''so''', 'happy');
CREATE TYPE types.pair AS (first integer, second text COLLATE "C");
CREATE TYPE types.span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE TYPE types.shell;
CREATE TYPE types.base;
CREATE FUNCTION types.base_in(cstring) RETURNS types.base LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
CREATE FUNCTION types.base_out(types.base) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
CREATE TYPE types.base (INPUT = types.base_in, OUTPUT = types.base_out, LIKE = integer);
CREATE DOMAIN types.positive AS integer DEFAULT 1 CONSTRAINT above CHECK (VALUE > 0);
CREATE DOMAIN types.code AS text COLLATE "C" NOT NULL;
ALTER DOMAIN types.code ADD CONSTRAINT short CHECK (length(VALUE) < 10) NOT VALID;
COMMENT ON TYPE types.mood IS 'a; "comment"';
COMMENT ON CONSTRAINT above ON DOMAIN types.positive IS '--';
CREATE COLLATION types.german FROM "C";
CREATE CAST (types.mood AS integer) WITH INOUT;
CREATE FUNCTION types.first(types.pair) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1.first';
CREATE CAST (types.pair AS integer) WITH FUNCTION types.first(types.pair) AS ASSIGNMENT;
CREATE CONVERSION types.latin FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE TABLE types.all_of_them (
  mood types.mood DEFAULT 'sad', moods types.mood[], pair types.pair, span types.span, base types.base,
  positive types.positive, code types.code, name text COLLATE types.german
);
CREATE TYPE types.counted;
CREATE FUNCTION types.canonical(types.counted) RETURNS types.counted LANGUAGE internal IMMUTABLE STRICT
  AS 'int4range_canonical';
CREATE TYPE types.counted AS RANGE (subtype = integer, canonical = types.canonical);
