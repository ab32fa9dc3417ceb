-- otps: adds the last failed attempt to deliver the message of an OTP.
--
-- Why: an operator must find out why a user gets no message, while it is being tried again and after
-- the OTP was closed. The log has every attempt, but may be elsewhere, or gone.
--
-- failure_channel: the channel of the attempt. NULL: failure_reason is NULL, or no attempt was made.
-- failure_reason: the reason that the log has, such as 'status 503': a status or an error code, never
--   a code, a destination or text of a provider. NULL: no attempt has failed. It is written when the
--   lease of a message that must be sent again is renewed, and not at all for a message whose first
--   attempt is accepted.
--
-- No index: the columns are read with the rows of a user.

INSERT IGNORE INTO schema_migrations (version, name, started_at)
VALUES (11, '0011-otps-failure', UTC_TIMESTAMP(6));

ALTER TABLE otps
  ADD COLUMN failure_channel VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NULL,
  ADD COLUMN failure_reason VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NULL;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 11;
