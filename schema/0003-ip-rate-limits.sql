-- ip_rate_limits: the quota points that a client address has used, for the true rolling window.
--
-- Why rows and no counter: a point is free again exactly 900 s after it was used, so each needs
-- its own time. Why slots: a point whose time is over is overwritten, so a busy address leaves
-- nothing to sweep. It is no column of otps, because codes to many users share an address and must
-- be counted under one lock.
--
-- address: IPv4 as text, or an IPv6 /64 as text (2001:db8:0:1::/64).
-- slot: 0 and on, below SLOTS_MAX; what does not fit goes to ip_rate_overflow, and whoever sees the
--   last slot looks there. Every transaction that issues a code locks the slots of its addresses, after the
--   codes of its users; an address that has none is decided by the primary key, as a user is.
-- used_at: when the points were used, UTC.
-- points: how many codes were issued at that very time (a collected transaction has one clock).
--
-- A row is dead, and swept, when used_at is at least 900 s old; the last slot at 1800 s, because
-- points may have gone to ip_rate_overflow for as long as it was live, and live as long again.
-- Indexes: the primary key finds the slots of an address; the sweep walks it in order.

INSERT INTO schema_migrations (version, name, started_at)
VALUES (3, '0003-ip-rate-limits', UTC_TIMESTAMP(6))
ON DUPLICATE KEY UPDATE name = '0003-ip-rate-limits';

CREATE TABLE ip_rate_limits (
  address VARCHAR(50) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  slot INT UNSIGNED NOT NULL,
  used_at DATETIME(6) NOT NULL,
  points INT UNSIGNED NOT NULL,
  PRIMARY KEY (address, slot)
) ENGINE = InnoDB;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 3;
