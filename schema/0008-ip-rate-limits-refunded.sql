-- ip_rate_limits: quota points that were given back.
--
-- refunded: how many of the points used at that time were given back, because no channel took the
--   message; `points` are those that count. A slot is kept for its time whatever is left in it: no
--   more points are given back in 15 minutes than the limit has (see 0007-otps-delivery.sql).
--   Points in ip_rate_overflow are not given back: their running totals would all have to change, and
--   an address that stands for so many users has a limit to match.

INSERT INTO schema_migrations (version, name, started_at)
VALUES (8, '0008-ip-rate-limits-refunded', UTC_TIMESTAMP(6))
ON DUPLICATE KEY UPDATE name = '0008-ip-rate-limits-refunded';

ALTER TABLE ip_rate_limits ADD COLUMN refunded INT UNSIGNED NOT NULL DEFAULT 0;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 8;
