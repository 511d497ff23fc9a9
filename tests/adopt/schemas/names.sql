-- Names that Python, SQLAlchemy, ruff or SQL read in another way.
CREATE SCHEMA app;
CREATE SCHEMA "Odd Schema";
CREATE TABLE "select" (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "from" text, "class" text, "None" int, "match" int, "self" int, "import" text,
    "metadata" jsonb, registry text, "type_annotation_map" int,
    "int" int, "float" float, "str" text, "text" text, "bool" boolean, "list" int[], "dt" date, "conv" text, "mapped_column" text,
    "createdAt" timestamptz, "HTTPStatus" int, "UPPER" int, "upper" int, "l" int, "O" int,
    "with space" text, "qu""ote" text, "it's" text, "back\slash" text, "dash-ed" text, "a:b" text, "a.b" int, "100%" int, "%(x)s" int, "{x}" int,
    "1st" text, "_private" text, "__dunder" text, "_" int, "größe" int, "ﬁ" int, "fi" int, "🙂" int, "🙃" int, "中文" text
);
CREATE INDEX ON "select" (lower("from"), "100%");
CREATE INDEX "we:ird %idx" ON "select" (("a:b" || ':x')) WHERE "a:b" <> '50% :off';
CREATE TABLE "Odd Schema"."Mixed Case" (id int PRIMARY KEY, "Ref" bigint REFERENCES "select", UNIQUE ("Ref"));
CREATE TABLE app.event (id int PRIMARY KEY);
CREATE TABLE event (id bigserial PRIMARY KEY, app_id int REFERENCES app.event);
CREATE TABLE "user" (id int PRIMARY KEY);
CREATE TABLE "User" (id int PRIMARY KEY);
CREATE TABLE "index" (id int PRIMARY KEY);
CREATE TABLE base (id int PRIMARY KEY);
CREATE TABLE date_time (id int PRIMARY KEY);
CREATE TABLE "1st table" (id int PRIMARY KEY);
CREATE TABLE "text" (a int);
CREATE TABLE "dt" (a int);
CREATE TABLE "class" (a int);
CREATE TABLE empty ();
CREATE INDEX "x USING btree (" ON "select" ("dash-ed" text_pattern_ops, "100%" DESC);
CREATE TABLE "dot.ted" (id int PRIMARY KEY);
CREATE TABLE refers_to_dots (id int PRIMARY KEY, r int REFERENCES "dot.ted");
CREATE TABLE "a23456789_123456789_123456789_123456789_123456789_123456789_123" (
    "b23456789_123456789_123456789_123456789_123456789_123456789_123" int PRIMARY KEY, x int UNIQUE,
    y int REFERENCES "a23456789_123456789_123456789_123456789_123456789_123456789_123"
);
-- Names that the naming convention explains, and such as only look like it.
CREATE TABLE named (
    id int CONSTRAINT pk_named PRIMARY KEY,
    a int CONSTRAINT uq_named_a UNIQUE,
    b int, d int, e int,
    c int CONSTRAINT fk_named_c_event REFERENCES event,
    CONSTRAINT ck_named_positive CHECK (a > 0), CONSTRAINT ck_named_ CHECK (b > 0), CONSTRAINT ck_named CHECK (c > 0),
    CONSTRAINT uq_named_a_b UNIQUE (a, b)
);
CREATE INDEX ix_named_b ON named (b);
CREATE UNIQUE INDEX ix_named_d ON named (d);
CREATE INDEX ix_named_b_c ON named (b, c);
CREATE INDEX ix_named_e ON named USING hash (e);
CREATE INDEX ix_named_a ON named (a) WHERE a > 5;
CREATE INDEX ix_named_c ON named (c DESC);
CREATE TYPE app."Mood" AS ENUM ('sad', 'it''s', '', 'with "quote"', '50%', 'a:b');
CREATE TYPE "my type" AS ENUM ('a');
CREATE TYPE event_2 AS ENUM ('a');
CREATE TABLE moods (m app."Mood" DEFAULT 'it''s', mt "my type", e event_2, id int PRIMARY KEY);
