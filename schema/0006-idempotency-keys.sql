-- idempotency_keys: the idempotency keys of successful verifications.
--
-- Why: a repeated POST /otp/verify with the same key gets the same 200. Only a success is stored,
-- in the transaction that verified the OTP, so that a row proves the success. Keys of POST
-- /otp/request are in otps: each of those requests has a key and a new row there, but not every
-- OTP is verified, and not every verification has a key.
--
-- id: the order of insertion.
-- key_digest: 128 bits of SHA-256 of the operation, the API client and the Idempotency-Key; the key
--   itself is not stored.
-- fingerprint: the first 128 bits of the digest of the verified code, as in otps. A repeated
--   verification is compared with it, so that the key repeats the 200 for the same code only.
-- key_id: the id of the server secret under which the digest was computed.
-- otp_id: the verified OTP; the digest is bound to its otp_id.
-- expires_at: when the key expires, in UTC, of the database's clock.
--
-- A row expires at expires_at.
-- Indexes: the primary key follows the order of insertion, so that rows are appended and the oldest
-- are swept from the other end. by_key finds a key, and decides between two first verifications
-- with the same key.

INSERT IGNORE INTO schema_migrations (version, name, started_at)
VALUES (6, '0006-idempotency-keys', UTC_TIMESTAMP(6));

CREATE TABLE idempotency_keys (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  key_digest BINARY(16) NOT NULL,
  fingerprint BINARY(16) NOT NULL,
  key_id VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  otp_id BINARY(16) NOT NULL,
  expires_at DATETIME(6) NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY by_key (key_digest)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 6;
