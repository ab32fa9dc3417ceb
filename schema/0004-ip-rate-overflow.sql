-- ip_rate_overflow: the quota points of an address beyond those that its slots hold.
--
-- Why: an address may stand for thousands of users, when its limit is raised. Its slots are locked
-- and read by every request, so there are few of them (SLOTS_MAX). What does not fit is appended
-- here; two look-ups in the primary key tell how many points are live and which one is the oldest,
-- however many there are. The slots of the address lock these rows too.
--
-- used_at: when the points were used, UTC.
-- points: how many codes were issued at that very time.
-- total: the points of the row and of all rows of the address before it, also of those that have
--   been swept. Between two rows it tells how many points lie between them.
--
-- A row is dead, and swept, when used_at is at least 900 s old.
-- Indexes: the primary key finds the newest and the oldest live points of an address; the sweep
-- walks it in order.

INSERT INTO schema_migrations (version, name, started_at)
VALUES (4, '0004-ip-rate-overflow', UTC_TIMESTAMP(6))
ON DUPLICATE KEY UPDATE name = '0004-ip-rate-overflow';

CREATE TABLE ip_rate_overflow (
  address VARCHAR(50) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  used_at DATETIME(6) NOT NULL,
  points INT UNSIGNED NOT NULL,
  total BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (address, used_at)
) ENGINE = InnoDB;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 4;
