-- table --
CREATE TABLE safe_migrations.revision_step (
    version_table text,
    revision text,
    direction text,
    name text,
    completed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (version_table, revision, direction, name)
)

-- read --
SELECT revision, direction, name FROM safe_migrations.revision_step
WHERE version_table = :version_table ORDER BY completed_at

-- record --
INSERT INTO safe_migrations.revision_step (version_table, revision, direction, name)
VALUES (:version_table, :revision, :direction, :name)

-- forget --
DELETE FROM safe_migrations.revision_step
WHERE version_table = :version_table AND revision = :revision AND direction = :direction
