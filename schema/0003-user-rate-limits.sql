-- user_rate_limits: the quota points that a user_id has used, for the true rolling window.
--
-- Why rows and no counter: a point is free again exactly 900 s after it was used, so each needs
-- its own time. Why slots: a point whose time is over is overwritten, so a user never has more
-- rows than points that were once live together, and an active user leaves nothing to sweep.
--
-- slot: 0 and on. Every transaction that issues a code locks the slots of its users first; a user
--   who has none is decided by the primary key: of two transactions that insert slot 0, the second
--   is rerun, and finds the first. That is what makes the limit exact.
-- used_at: when the points were used, UTC.
-- points: how many codes were issued at that very time (a collected transaction has one clock).
--
-- A row is dead, and swept, when used_at is at least 900 s old.
-- Indexes: the primary key finds the slots of a user; the sweep walks it in order.

INSERT INTO schema_migrations (version, name, started_at)
VALUES (3, '0003-user-rate-limits', UTC_TIMESTAMP(6))
ON DUPLICATE KEY UPDATE name = '0003-user-rate-limits';

CREATE TABLE user_rate_limits (
  user_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
  slot INT UNSIGNED NOT NULL,
  used_at DATETIME(6) NOT NULL,
  points INT UNSIGNED NOT NULL,
  PRIMARY KEY (user_id, slot)
) ENGINE = InnoDB;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 3;
