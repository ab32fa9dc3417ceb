-- otps: adds the API client that requested an OTP.
--
-- Why: an OTP may be canceled only by the API client that requested it, or by one with the scope
-- admin. An otp_id that others learn must not let them end the code.
--
-- api_client: the name of the API client. NULL: the OTP was requested without API keys, or before
--   this column existed.
--
-- No index: the column is read with the row.

INSERT IGNORE INTO schema_migrations (version, name, started_at)
VALUES (8, '0008-otps-api-client', UTC_TIMESTAMP(6));

ALTER TABLE otps
  ADD COLUMN api_client VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NULL;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 8;
