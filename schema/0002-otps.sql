-- otps: the newest code of every pair (user_id, purpose), and the pair's count of wrong codes.
--
-- Why one row per pair: the primary key itself holds "one active code per pair". Issuing a code
-- overwrites the row, which supersedes the earlier code in the same write; the counts of wrong
-- codes stay, because a new code must not reset them (NIST SP 800-63B-4, 3.1.3.2).
--
-- user_id, purpose: compared byte for byte (utf8mb4_0900_bin neither folds nor pads).
-- otp_id: 128 random bits, the public name of the code.
-- digest: HMAC-SHA-256 of the code under the server secret named by key_id, bound to otp_id,
--   user_id and purpose. NULL: the code can never be redeemed again (redeemed, or the pair was
--   locked), and its digest is erased.
-- redeemed_at: when the code was redeemed. NULL: it was not.
-- wrong_attempts: wrong codes since the last success, end of a lock, or lock's length of quiet.
-- last_wrong_at: the last wrong code. NULL: none since the last success.
-- locked_until: the lock that the last of the allowed wrong codes began. NULL: none since the
--   last success. A time that has come is a lock that is over.
-- consecutive_wrong: wrong codes since the last success, across locks (NIST SP 800-63B-4, 3.2.2).
--   A row with such a count is live and is never swept: the count must not be forgotten.
-- verify_ids: names the last four verifications that changed the row, 8 random bytes each, the
--   newest first, so that a process whose COMMIT went unanswered can learn whether it happened,
--   also when others have changed the row since. Empty: none ever did.
--
-- All times are UTC, of the database's clock.
-- Indexes: the primary key finds a pair; nothing searches otherwise, so there is no other.

INSERT INTO schema_migrations (version, name, started_at)
VALUES (2, '0002-otps', UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE name = '0002-otps';

CREATE TABLE otps (
  user_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
  purpose VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
  otp_id BINARY(16) NOT NULL,
  key_id VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  digest BINARY(32) NULL,
  created_at DATETIME(6) NOT NULL,
  expires_at DATETIME(6) NOT NULL,
  redeemed_at DATETIME(6) NULL,
  wrong_attempts TINYINT UNSIGNED NOT NULL,
  last_wrong_at DATETIME(6) NULL,
  locked_until DATETIME(6) NULL,
  consecutive_wrong SMALLINT UNSIGNED NOT NULL,
  verify_ids VARBINARY(32) NOT NULL,
  PRIMARY KEY (user_id, purpose)
) ENGINE = InnoDB;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 2;
