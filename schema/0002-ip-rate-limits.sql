-- ip_rate_limits: the points of address_limit that each client IP has taken in the rolling window.
--
-- Why: a point is free again exactly 900 s after it was taken, so the time of each point is stored
-- instead of a counter. A row is a slot: a point overwrites a slot whose window has ended, so a
-- busy client IP leaves no expired rows to sweep. The table is separate from otps because the OTPs
-- of many users share a client IP and must be counted under one lock. A transaction that issues an
-- OTP locks the slots of its client IPs after the otps rows of its users. For a client IP without
-- slots the primary key decides: the second of two transactions that insert the same slot fails,
-- and runs again with the row of the first.
--
-- address: the client IP: IPv4 as text, or an IPv6 /64 prefix as text (2001:db8:0:1::/64).
-- slot: 0 to 31. Points that find no free slot go to ip_rate_overflow, which is read only for a
--   client IP that has slot 31.
-- used_at: when the points were taken, in UTC, of the database's clock.
-- points: how many points were taken at used_at and still count. Above 1 when several requests of
--   one batch have the same client IP.
-- refunded: how many points of the slot were returned because no channel could deliver the message.
--   The slot remains after a refund: its count bounds the refunds of a window by the limit, so that
--   an unreachable user cannot cause an unlimited number of calls to a provider. Points in
--   ip_rate_overflow are never returned, because all later running counts would have to change.
--
-- A row expires when used_at is 900 s old, slot 31 after 1800 s: for 900 s further points may have
-- gone to ip_rate_overflow, and those count for another 900 s.
-- Indexes: the primary key finds and locks the slots of a client IP; the sweep reads in its order.

INSERT IGNORE INTO schema_migrations (version, name, started_at)
VALUES (2, '0002-ip-rate-limits', UTC_TIMESTAMP(6));

CREATE TABLE ip_rate_limits (
  address VARCHAR(50) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  slot INT UNSIGNED NOT NULL,
  used_at DATETIME(6) NOT NULL,
  points INT UNSIGNED NOT NULL,
  refunded INT UNSIGNED NOT NULL DEFAULT 0,
  PRIMARY KEY (address, slot)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 2;
