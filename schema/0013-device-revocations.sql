-- device_revocations: the trusted devices that an operator has revoked.
--
-- Why: the token of a device proves by itself that a user has succeeded on it, so no table lists
-- the devices. Only what must no longer be trusted is stored.
--
-- user_id: compared byte for byte, as in otps.
-- device: the device, as in otps. Empty: all devices of the user whose tokens were issued before
--   the second of revoked_at; those of the same second have rows of their own.
-- revoked_at: when the devices were revoked, in UTC, of the database's clock.
--
-- A row expires when revoked_at is 400 days old, the longest life of a token. `otpd revoke` deletes
-- the expired rows whenever it adds one, so there is no sweep.
-- Indexes: the primary key finds the revocations of a user. They are read after the lock on the
-- OTPs of the user, and are not locked.

INSERT IGNORE INTO schema_migrations (version, name, started_at)
VALUES (13, '0013-device-revocations', UTC_TIMESTAMP(6));

CREATE TABLE device_revocations (
  user_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
  device VARBINARY(8) NOT NULL,
  revoked_at DATETIME(6) NOT NULL,
  PRIMARY KEY (user_id, device)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 13;
