CREATE SCHEMA "Odd; ""names""";
CREATE TYPE "Odd; ""names"""."select" AS ENUM ('a');
CREATE TABLE "Odd; ""names"""."table" (
  "column" serial PRIMARY KEY, "a b" "Odd; ""names"""."select", "%s :x $1" text,
  "ünïcödé ☃" integer CONSTRAINT "it's -- odd" CHECK ("ünïcödé ☃" > 0), "CamelCase" integer UNIQUE
);
CREATE TABLE "Odd; ""names"""."sixty three bytes and not one more than sixty three bytes -- /*" (
  "order" integer REFERENCES "Odd; ""names"""."table", "metadata" integer, "registry" text, "$$" text DEFAULT '$$;--'
);
CREATE INDEX "index; DROP" ON "Odd; ""names"""."table" ("a b");
CREATE FUNCTION "Odd; ""names"""."a-b"("in" integer) RETURNS integer LANGUAGE sql
  AS $x$ SELECT '$$;'::text IS NULL; SELECT 1 $x$;
CREATE VIEW "Odd; ""names"""."view" AS SELECT "a b" AS "v;" FROM "Odd; ""names"""."table";
CREATE TABLE "UPPER" (id integer);
CREATE TABLE "begin" ("end" integer, "case" integer);
CREATE FUNCTION "begin"(integer) RETURNS integer IMMUTABLE BEGIN ATOMIC
  SELECT CASE WHEN "end" > 1 THEN 1 END FROM "begin";
END;
COMMENT ON TABLE "UPPER" IS E'--\n-- Name: x; Type: TABLE; Schema: y; Owner: -\n--\n';
