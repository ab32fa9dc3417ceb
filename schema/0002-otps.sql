-- otps: the codes of every user, and the count of wrong codes of every pair (user_id, purpose).
--
-- A code is kept while it can be redeemed, for the 15 minutes of its quota point, and, as the last
-- one of its pair, for a day more.
--
-- Why one row per code: it serves both rules that ask about a user. Its created_at is the quota
-- point that the code has used, for the true rolling window over all purposes together; and of the
-- codes of a pair the one with the highest number is the one that can be redeemed, so that issuing
-- a code supersedes the earlier one in the same write.
--
-- user_id, purpose: compared byte for byte (utf8mb4_0900_bin neither folds nor pads).
-- slot: 0 and on. A row that is not needed any more is overwritten by the next code, so a user
--   never has more rows than codes that were once needed together. Every transaction locks all
--   rows of its users first. A new row takes the highest slot and one more: of two transactions
--   that insert the same slot, the second is rerun, and finds the row of the first. That is what
--   makes the limit exact, also for a user who has no row yet.
-- number: the codes of a user are numbered in the order in which they were issued.
-- otp_id: 128 random bits, the public name of the code.
-- digest: HMAC-SHA-256 of the code under the server secret named by key_id, bound to otp_id,
--   user_id and purpose. NULL: the code can never be redeemed again (redeemed, or the pair was
--   locked), and its digest is erased.
-- created_at: when the code was issued, and its quota point used.
-- redeemed_at: when the code was redeemed. NULL: it was not.
--
-- The following describe the pair, and move on to its next code:
--
-- wrong_attempts: wrong codes since the last success, end of a lock, or lock's length of quiet.
-- last_wrong_at: the last wrong code, or when an operator unlocked the pair. NULL: neither since the
--   last success. The pair is known for a day more from then on, too.
-- locked_until: the lock that the last of the allowed wrong codes began. NULL: none since the
--   last success. A time that has come is a lock that is over.
-- consecutive_wrong: wrong codes since the last success, across locks (NIST SP 800-63B-4, 3.2.2).
--   A row with such a count is live and is never swept: the count must not be forgotten.
-- verify_ids: names the last four verifications that changed the row, 8 random bytes each, the
--   newest first, so that a process whose COMMIT went unanswered can learn whether it happened,
--   also when others have changed the row since. Empty: none ever did.
--
-- All times are UTC, of the database's clock.
-- Indexes: the primary key finds the codes of a user; nothing searches otherwise, so there is no
-- other.

INSERT INTO schema_migrations (version, name, started_at)
VALUES (2, '0002-otps', UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE name = '0002-otps';

CREATE TABLE otps (
  user_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
  slot SMALLINT UNSIGNED NOT NULL,
  number INT UNSIGNED NOT NULL,
  purpose VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
  otp_id BINARY(16) NOT NULL,
  key_id VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  digest BINARY(32) NULL,
  created_at DATETIME(6) NOT NULL,
  expires_at DATETIME(6) NOT NULL,
  redeemed_at DATETIME(6) NULL,
  wrong_attempts TINYINT UNSIGNED NOT NULL DEFAULT 0,
  last_wrong_at DATETIME(6) NULL,
  locked_until DATETIME(6) NULL,
  consecutive_wrong SMALLINT UNSIGNED NOT NULL DEFAULT 0,
  verify_ids VARBINARY(32) NOT NULL DEFAULT '',
  PRIMARY KEY (user_id, slot)
) ENGINE = InnoDB;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 2;
