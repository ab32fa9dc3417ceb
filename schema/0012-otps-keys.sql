-- otps: the idempotency key of the request that issued a code, in the row of the code.
--
-- Why: what a repeat of the request gets again is what the row of its code tells anyway, so a row of
-- its own for each key was one of three rows for nothing (measured: 25 µs of 240 of the server for a
-- code). What is left in idempotency_keys are the keys of verifications.
--
-- key_digest: 128 bits of SHA-256 of the operation and the key. The key itself is not stored. NULL:
--   the key was over, and has been used for another code since; or the code was issued before keys
--   were kept here.
-- key_expires_at: from then on the key is unknown. NULL: as key_digest.
-- remaining_requests: the member of the stored answer; otp_id is another, and ttl_seconds is the time
--   from created_at to expires_at.
-- user_id: NULL when the user has moved on, and the row is kept for its key alone: nothing else is
--   told of the code any more, and whoever locks or reads the codes of the user does not meet it.
-- fingerprint: of such a row, 128 bits of SHA-256 of user_id and purpose: what the key was used for.
--   NULL: user_id and purpose tell.
--
-- Why user_id, and no mark beside it: users are locked by equality. A range that leaves rows of a user
-- out is locked up to the first row of the next user, and waits for whoever holds that one (tried).
--
-- A row is dead, and swept, when its key is over and nothing else is to be known of its code.
-- Indexes: by_key finds a key, and arbitrates two first requests with one.
--
-- Processes of an earlier version must have been stopped: they look for these keys elsewhere.

INSERT INTO schema_migrations (version, name, started_at)
VALUES (12, '0012-otps-keys', UTC_TIMESTAMP(6))
ON DUPLICATE KEY UPDATE name = '0012-otps-keys';

ALTER TABLE otps
  ADD COLUMN key_digest BINARY(16) NULL,
  ADD COLUMN key_expires_at DATETIME(6) NULL,
  ADD COLUMN remaining_requests SMALLINT UNSIGNED NULL,
  ADD COLUMN fingerprint BINARY(16) NULL,
  MODIFY COLUMN user_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NULL,
  ADD UNIQUE KEY by_key (key_digest);

UPDATE otps AS t
INNER JOIN (
  SELECT DISTINCT otp_id, key_digest, expires_at, remaining_requests
  FROM idempotency_keys WHERE key_id IS NULL
) AS k ON k.otp_id = t.otp_id
SET t.key_digest = k.key_digest, t.key_expires_at = k.expires_at,
  t.remaining_requests = k.remaining_requests;

INSERT IGNORE INTO otps (user_id, number, purpose, otp_id, key_id, digest, created_at, expires_at,
  bundle_id, bundle_number, key_digest, key_expires_at, remaining_requests, fingerprint)
SELECT NULL, 0, '', otp_id, '', NULL, UTC_TIMESTAMP(6),
  UTC_TIMESTAMP(6) + INTERVAL ttl_seconds SECOND, RANDOM_BYTES(8), 0, key_digest, expires_at,
  remaining_requests, fingerprint
FROM idempotency_keys WHERE key_id IS NULL;

DELETE FROM idempotency_keys WHERE key_id IS NULL;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 12;
