-- outbox: the messages that no channel has accepted yet.
--
-- Why: a 201 must mean that the message is on its way, also when the process dies a millisecond
-- later. The transaction that stores codes stores their messages here, sealed, in one row or a few:
-- a row for each would cost more than the code. What a channel has accepted is left out of its row;
-- the row goes with its last message, and when the last one has expired. So the table is small,
-- whatever the traffic, and all of it is work to do.
--
-- bundle_id: 8 random bytes; the codes name it.
-- otp_ids: the codes whose messages are in the row, 16 bytes each.
-- key_id, sealed: for each of them, in their order, user, purpose, code and what else is needed to
--   send it, under AES-256-GCM with a key that is derived from the server secret named by key_id and
--   from bundle_id, and bound to otp_ids.
-- owner: the process that sends them, 8 random bytes. Nobody else may, until
-- leased_until: when the owner has not renewed its lease by then it has died, and any process may
--   take the messages over, send those whose codes work still, and close the others.
--
-- All times are UTC, of the database's clock.
-- Indexes: the primary key finds a row; by_lease finds those that somebody has left.

INSERT INTO schema_migrations (version, name, started_at)
VALUES (6, '0006-outbox', UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE name = '0006-outbox';

CREATE TABLE outbox (
  bundle_id BINARY(8) NOT NULL,
  otp_ids VARBINARY(1024) NOT NULL,
  key_id VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  sealed MEDIUMBLOB NOT NULL,
  owner BINARY(8) NOT NULL,
  leased_until DATETIME(6) NOT NULL,
  PRIMARY KEY (bundle_id),
  KEY by_lease (leased_until)
) ENGINE = InnoDB;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 6;
