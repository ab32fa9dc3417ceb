-- otps: the numbers that a code was issued under, which hold for it whatever the policy says later.
--
-- code_digits: the length of the code.
-- attempts_max: how many wrong attempts lock the pair.
-- lock_seconds: how long that lock is, and how long without a wrong attempt ends their count.
--
-- expires_at is the fourth of them. NULL: issued before this was kept; then the policy in force holds.
-- They describe the pair by its newest code: an earlier one has no say.

INSERT INTO schema_migrations (version, name, started_at)
VALUES (9, '0009-otps-policy', UTC_TIMESTAMP(6))
ON DUPLICATE KEY UPDATE name = '0009-otps-policy';

ALTER TABLE otps
  ADD COLUMN code_digits TINYINT UNSIGNED NULL,
  ADD COLUMN attempts_max TINYINT UNSIGNED NULL,
  ADD COLUMN lock_seconds MEDIUMINT UNSIGNED NULL;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 9;
