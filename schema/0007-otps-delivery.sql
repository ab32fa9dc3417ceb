-- otps: what became of the message of a code, and of the code before its time.
--
-- bundle_id: the row of the outbox that its message was put into; the public name of the code tells it
--   to whoever has the server secret. NULL: issued before there was one.
-- channel: by which the message goes, or went last. NULL: issued before this was kept.
-- ending: why the code can never be redeemed again, when that is not for its being redeemed or for a
--   lock: 'failed' (no channel took its message) or 'canceled'. NULL: neither.
-- is_refunded: the quota point of the user was given back, because the message failed. The row still
--   tells when: no more points are given back in 15 minutes than the limit has, or a user who
--   cannot be reached could ask for ever, and each time a provider would be asked.
--
-- Indexes: by_bundle finds the user of a code, for those who know no more than its public name. The
-- codes of one transaction are beside each other in it, and those of the next one behind them, so
-- that it costs little. It is not unique, because 128 random bits are, and because nothing should be
-- locked or looked up for it when a code is written.

INSERT INTO schema_migrations (version, name, started_at)
VALUES (7, '0007-otps-delivery', UTC_TIMESTAMP(6))
ON DUPLICATE KEY UPDATE name = '0007-otps-delivery';

ALTER TABLE otps
  ADD COLUMN bundle_id BINARY(8) NULL,
  ADD COLUMN channel VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NULL,
  ADD COLUMN ending VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NULL,
  ADD COLUMN is_refunded BOOLEAN NOT NULL DEFAULT FALSE,
  ADD KEY by_bundle (bundle_id, otp_id);

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 7;
