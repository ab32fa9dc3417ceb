-- otps: adds the trusted device that an OTP belongs to.
--
-- Why: an attacker who knows the name of a user must not be able to use up, lock or supersede the
-- codes of the devices on which the user has succeeded before. So each pair (user_id, purpose) has
-- its newest OTP, its wrong attempts and its lock once for each trusted device, and once for all
-- other clients of the user together.
--
-- device: the 8 bytes that identify a trusted device in its token. Empty: the OTP was requested by
--   an untrusted client, as all were before this column existed. It is never NULL, so that two
--   values can be compared.
--
-- No index: the column is read with the rows of a user.

INSERT IGNORE INTO schema_migrations (version, name, started_at)
VALUES (12, '0012-otps-device', UTC_TIMESTAMP(6));

ALTER TABLE otps
  ADD COLUMN device VARBINARY(8) NOT NULL DEFAULT '';

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 12;
