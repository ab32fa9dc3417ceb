-- write_checks: the table in which `/readyz` and the start of otpd try a write.
--
-- Why: a server may answer every read while no commit succeeds, for example because it has lost the
-- majority of its group, or because a backup holds a global read lock. A check inserts one row,
-- deletes it and commits, in one transaction, so that no committed row ever exists.
--
-- connection_id: the id of the connection that checks. It differs between processes, so that no
--   check waits for another.
--
-- A row never outlives its transaction.
-- Indexes: the primary key finds the row to delete.

INSERT IGNORE INTO schema_migrations (version, name, started_at)
VALUES (10, '0010-write-checks', UTC_TIMESTAMP(6));

CREATE TABLE write_checks (
  connection_id BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (connection_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 10;
