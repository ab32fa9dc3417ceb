-- idempotency_keys: of verifications only, since 0012-otps-keys.sql.
--
-- ttl_seconds, remaining_requests: are gone, as the answer to a verification has no such members.
-- key_id: is always there: it names the server secret of the fingerprint.

INSERT INTO schema_migrations (version, name, started_at)
VALUES (13, '0013-verification-keys', UTC_TIMESTAMP(6))
ON DUPLICATE KEY UPDATE name = '0013-verification-keys';

ALTER TABLE idempotency_keys
  DROP COLUMN ttl_seconds,
  DROP COLUMN remaining_requests,
  MODIFY COLUMN key_id VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 13;
