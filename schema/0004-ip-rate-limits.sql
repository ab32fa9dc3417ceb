-- ip_rate_limits: the quota points that a client address has used, for the true rolling window.
--
-- The twin of user_rate_limits, with the same slots, locked in the same way. It is a table of
-- its own so that the two kinds of subject can never be mistaken for each other, and so that all
-- users are locked before all addresses, everywhere.
--
-- address: IPv4 as text, or an IPv6 /64 as text (2001:db8:0:1::/64).
--
-- Indexes: the primary key finds the slots of an address; the sweep walks it in order.

INSERT INTO schema_migrations (version, name, started_at)
VALUES (4, '0004-ip-rate-limits', UTC_TIMESTAMP(6))
ON DUPLICATE KEY UPDATE name = '0004-ip-rate-limits';

CREATE TABLE ip_rate_limits (
  address VARCHAR(50) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  slot INT UNSIGNED NOT NULL,
  used_at DATETIME(6) NOT NULL,
  points INT UNSIGNED NOT NULL,
  PRIMARY KEY (address, slot)
) ENGINE = InnoDB;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 4;
