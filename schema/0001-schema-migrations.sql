-- schema_migrations: which of these files the database has seen.
--
-- Why: the runner (npm run migrate) and the service compare it with the files they know. Every
-- file from 0002 on opens its own row first and closes it last, so a DBA who feeds the files to
-- the mysql client by hand, in order, leaves the same record as the runner.
--
-- started_at, finished_at: UTC. finished_at NULL: the file was begun and not finished; the runner
-- names it and resumes it.
--
-- Row 0 is no file: the runner holds its lock while it works, so that any number of processes
-- may start at once. This file alone may be run again and again.

CREATE TABLE IF NOT EXISTS schema_migrations (
  version INT UNSIGNED NOT NULL,
  name VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  started_at DATETIME(6) NOT NULL,
  finished_at DATETIME(6) NULL,
  PRIMARY KEY (version)
) ENGINE = InnoDB;

INSERT IGNORE INTO schema_migrations (version, name, started_at, finished_at)
VALUES
  (0, 'the lock of the runner', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6)),
  (1, '0001-schema-migrations', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6));
