-- schema_migrations: the schema files that were applied to this database, one row per file.
--
-- Why: `migrate` applies the files that have no finished row. `serve` and `doctor` report missing
-- files, and all three refuse a database that has a file unknown to them. Each file from 0002 on
-- inserts its own row first and sets finished_at last, so a DBA can also feed the files to the
-- mysql client in order, with the same result. This file alone may run any number of times.
--
-- version: the number of the file. Row 0 stands for no file: `migrate` locks it while it applies
--   files, so that concurrent runs wait for each other.
-- name: the name of the file without `.sql`. The names of the known files identify the schema.
-- started_at: when the first statement of the file ran, in UTC.
-- finished_at: when the last statement of the file ran, in UTC. NULL: the file was interrupted, and
--   the next `migrate` resumes it.
--
-- A row never expires.
-- Indexes: the primary key finds row 0 for the lock. All other reads return the whole table.

CREATE TABLE IF NOT EXISTS schema_migrations (
  version INT UNSIGNED NOT NULL,
  name VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  started_at DATETIME(6) NOT NULL,
  finished_at DATETIME(6) NULL,
  PRIMARY KEY (version)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

INSERT IGNORE INTO schema_migrations (version, name, started_at, finished_at)
VALUES
  (0, 'the lock of migrate', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6)),
  (1, '0001-schema-migrations', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6));
