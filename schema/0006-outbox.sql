-- outbox: the messages that no channel has accepted yet.
--
-- Why: a 201 must mean that the message is on its way, also when the process dies a millisecond
-- later. The transaction that stores a code stores its message here, sealed. The row goes as soon as
-- a channel has accepted the message, when its code is superseded or canceled, and when it expires.
-- So the table is small, whatever the traffic, and all of it is work to do.
--
-- otp_id: the code that the message carries.
-- key_id, sealed: user, purpose, code and what else is needed to send it, under AES-256-GCM with a
--   key derived from the server secret named by key_id and from otp_id.
-- expires_at: when the code expires. From then on the message is not sent any more.
-- owner: the process that sends it, 8 random bytes. Nobody else may, until
-- leased_until: when the owner has not renewed its lease by then it has died, and any process may
--   take the message over.
--
-- All times are UTC, of the database's clock.
-- Indexes: the primary key finds the messages of codes; by_lease finds those that somebody has left.

INSERT INTO schema_migrations (version, name, started_at)
VALUES (6, '0006-outbox', UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE name = '0006-outbox';

CREATE TABLE outbox (
  otp_id BINARY(16) NOT NULL,
  key_id VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  sealed VARBINARY(4096) NOT NULL,
  expires_at DATETIME(6) NOT NULL,
  owner BINARY(8) NOT NULL,
  leased_until DATETIME(6) NOT NULL,
  PRIMARY KEY (otp_id),
  KEY by_lease (leased_until)
) ENGINE = InnoDB;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 6;
