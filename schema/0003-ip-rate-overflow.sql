-- ip_rate_overflow: the points of a client IP that do not fit into its slots in ip_rate_limits.
--
-- Why: with a high address_limit one client IP may stand for thousands of users. Each request reads
-- and locks all slots of its client IP, so a client IP has at most 32 slots, and its further points
-- are appended here. A running count makes the number of live points the difference of two rows, so
-- that two look-ups suffice however many points there are. A transaction that grants a point holds
-- the lock on the slots of the client IP, and needs no lock on the rows here.
--
-- address: the client IP, as in ip_rate_limits.
-- used_at: when the points were taken, in UTC, of the database's clock; never before the used_at of
--   an earlier row of the client IP.
-- points: how many points were taken at used_at.
-- number: the running count: the points of this row and of all earlier rows of the client IP,
--   including rows that were swept. It starts again at 1 when the client IP has no row.
--
-- A row expires when used_at is 900 s old.
-- Indexes: the primary key finds the newest row and the oldest live rows of a client IP; the sweep
-- reads in its order.

INSERT IGNORE INTO schema_migrations (version, name, started_at)
VALUES (3, '0003-ip-rate-overflow', UTC_TIMESTAMP(6));

CREATE TABLE ip_rate_overflow (
  address VARCHAR(50) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  used_at DATETIME(6) NOT NULL,
  points INT UNSIGNED NOT NULL,
  number BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (address, used_at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 3;
