COMMENT ON SCHEMA public IS 'our own';
CREATE EXTENSION citext;
CREATE SCHEMA extensions;
CREATE EXTENSION pg_trgm SCHEMA extensions;
CREATE EXTENSION btree_gist;
CREATE TABLE words (
  id integer, word citext PRIMARY KEY, during tstzrange, EXCLUDE USING gist (id WITH =, during WITH &&)
);
CREATE INDEX ON words USING gin ((word::text) extensions.gin_trgm_ops);
CREATE ACCESS METHOD another TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE kept_elsewhere (a integer) USING another;
CREATE TABLE kept_here (a integer);
CREATE TABLE above (a integer PRIMARY KEY);
CREATE FOREIGN DATA WRAPPER nothing OPTIONS (mode 'x');
CREATE SERVER far TYPE 'a' VERSION '1' FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE remote (id integer OPTIONS (name 'n') NOT NULL, CHECK (id > 0)) SERVER far OPTIONS (t 'r');
CREATE TEXT SEARCH TEMPLATE template (INIT = dsimple_init, LEXIZE = dsimple_lexize);
CREATE TEXT SEARCH DICTIONARY dictionary (TEMPLATE = template, StopWords = 'english');
CREATE TEXT SEARCH PARSER parser (
  START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype, HEADLINE = prsd_headline
);
CREATE TEXT SEARCH CONFIGURATION configuration (PARSER = parser);
ALTER TEXT SEARCH CONFIGURATION configuration ADD MAPPING FOR asciiword WITH dictionary, simple;
CREATE TABLE texts (body text, v tsvector GENERATED ALWAYS AS (to_tsvector('configuration', body)) STORED);
