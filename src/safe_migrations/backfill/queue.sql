-- backfill_table --
CREATE TABLE safe_migrations.backfill (
    name text PRIMARY KEY,
    key text NOT NULL,
    position text[],
    planned boolean NOT NULL DEFAULT false,
    rows bigint NOT NULL DEFAULT 0,
    finished_at timestamptz
)

-- batch_table --
CREATE TABLE safe_migrations.backfill_batch (
    name text REFERENCES safe_migrations.backfill ON DELETE CASCADE,
    id bigint GENERATED ALWAYS AS IDENTITY,
    after text[],
    last text[] NOT NULL,
    PRIMARY KEY (name, id)
)

-- begin --
INSERT INTO safe_migrations.backfill AS known (name, key) VALUES (:name, :key)
ON CONFLICT (name) DO UPDATE SET key = :key, position = NULL, planned = false, finished_at = NULL
WHERE known.finished_at IS NOT NULL AND :again

-- read --
SELECT *, EXISTS (SELECT FROM safe_migrations.backfill_batch WHERE name = :name) AS unfinished
FROM safe_migrations.backfill WHERE name = :name

-- rows --
SELECT rows FROM safe_migrations.backfill WHERE name = :name

-- plan --
INSERT INTO safe_migrations.backfill_batch (name, after, last) VALUES (:name, :after, :last)

-- advance --
UPDATE safe_migrations.backfill SET position = :position, planned = :planned WHERE name = :name

-- finish --
UPDATE safe_migrations.backfill SET finished_at = clock_timestamp() WHERE name = :name

-- claim --
DELETE FROM safe_migrations.backfill_batch WHERE (name, id) = (
    SELECT name, id FROM safe_migrations.backfill_batch WHERE name = :name ORDER BY id LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING after, last

-- count --
UPDATE safe_migrations.backfill SET rows = rows + :rows WHERE name = :name RETURNING rows

-- key --
SELECT array_agg(format_type(atttypid, atttypmod) ORDER BY place) AS types, bool_and(attnotnull) AND EXISTS (
    SELECT FROM pg_index WHERE indrelid = to_regclass(:table) AND indisvalid AND indpred IS NULL
      AND (indkey::int2[])[0:cardinality(CAST(:key AS text[])) - 1] = array_agg(attnum ORDER BY place)
  ) AS usable
FROM unnest(CAST(:key AS text[])) WITH ORDINALITY AS key (name, place)
JOIN pg_attribute ON attrelid = to_regclass(:table) AND attname = name AND NOT attisdropped

-- exact --
-- As pg_dump does: values written as text are read as the same values, whatever the settings of the database.
SELECT set_config('DateStyle', 'ISO', true), set_config('IntervalStyle', 'postgres', true),
  set_config('extra_float_digits', '3', true)

-- estimate --
SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass(:table)
