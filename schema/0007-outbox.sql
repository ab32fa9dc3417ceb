-- outbox: the messages that no channel has accepted yet, up to 64 in a row.
--
-- Why: a 201 promises that the message is on its way, even if the process dies a millisecond
-- later. The transaction that stores OTPs therefore stores their sealed messages here, one row per
-- outbox batch: a row per message would cost more than the OTP itself. Accepted messages are taken
-- out of their row, and the row is deleted with its last one, so that the table stays small under
-- any traffic and contains only work to do.
--
-- batch_id: the id of the batch, as in the otps rows of its OTPs.
-- otp_ids: the otp_id of each message of the row, 16 bytes each.
-- key_id: the id of the server secret from which the key of sealed is derived.
-- sealed: a JSON array with the message of each of otp_ids (user, purpose, code and more), in
--   their order: AES-256-GCM under a key derived from the secret and batch_id, bound to otp_ids.
-- owner: 8 random bytes, the id of the process that sends the messages. No other process may send
--   them before leased_until.
-- leased_until: when the lease of the owner ends, in UTC, of the database's clock. After that any
--   process may reclaim the row, send the messages whose codes are still valid, and close the other
--   OTPs.
--
-- A row never expires: its owner, or the process that reclaims it, deletes it.
-- Indexes: the primary key finds a row by its batch; by_lease finds rows whose lease has ended.

INSERT IGNORE INTO schema_migrations (version, name, started_at)
VALUES (7, '0007-outbox', UTC_TIMESTAMP(6));

CREATE TABLE outbox (
  batch_id BINARY(8) NOT NULL,
  otp_ids VARBINARY(1024) NOT NULL,
  key_id VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  sealed MEDIUMBLOB NOT NULL,
  owner BINARY(8) NOT NULL,
  leased_until DATETIME(6) NOT NULL,
  PRIMARY KEY (batch_id),
  KEY by_lease (leased_until)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 7;
