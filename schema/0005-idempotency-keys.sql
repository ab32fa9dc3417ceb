-- idempotency_keys: the answers that a repeat with the same Idempotency-Key gets again.
--
-- Those to requests have moved on to the rows of their codes: see 0012-otps-keys.sql.
--
-- Why: only a 201 of /otp/request and a 200 of /otp/verify are stored, in the transaction that
-- made them true; so a row is proof that it happened, also for a process whose COMMIT went
-- unanswered. Two first requests with one key are arbitrated by the unique index.
--
-- key_digest: 128 bits of SHA-256 of the operation and the key. The key itself is not stored.
-- fingerprint: what the key was used for. Of a request: 128 bits of SHA-256 of user_id and purpose.
--   Of a verification: those of the keyed digest of the right code, bound to otp_id, user_id and
--   purpose. 128 bits, because every request adds a row that stays for a day.
-- key_id: the server secret of such a keyed digest. NULL: the row is of a request.
-- otp_id, ttl_seconds, remaining_requests: the members of the stored answer. The last two are
--   NULL for a verification, whose answer has no such members.
-- expires_at: from then on the key is unknown, and the row is swept.
--
-- Indexes: the primary key is in the order of time, so that rows are appended, and the oldest are
-- swept from the other end. The unique index finds a key; every request asks it, when its answer is
-- stored if not before, mostly in vain, and its entries are a third of a row, so that three times as
-- many of them are in memory.

INSERT INTO schema_migrations (version, name, started_at)
VALUES (5, '0005-idempotency-keys', UTC_TIMESTAMP(6))
ON DUPLICATE KEY UPDATE name = '0005-idempotency-keys';

CREATE TABLE idempotency_keys (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  key_digest BINARY(16) NOT NULL,
  fingerprint BINARY(16) NOT NULL,
  key_id VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NULL,
  otp_id BINARY(16) NOT NULL,
  ttl_seconds SMALLINT UNSIGNED NULL,
  remaining_requests SMALLINT UNSIGNED NULL,
  expires_at DATETIME(6) NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY by_key (key_digest)
) ENGINE = InnoDB;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 5;
