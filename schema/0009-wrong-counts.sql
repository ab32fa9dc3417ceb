-- wrong_counts: the consecutive wrong attempts of pairs whose OTPs have been swept.
--
-- Why: the count decides when a pair is locked until an operator unlocks it (NIST SP 800-63B-4,
-- 3.2.2), so it must outlast the OTPs of the pair. Anybody can make such counts, for any user and
-- purpose that they invent, so a row here is small, and a count below the lock is not kept forever.
-- The sweep moves the count of an expired otps row to this table in the transaction that deletes
-- the row; before this table existed, an otps row with a count never expired. The next OTP of the
-- pair takes the count over, and the row here is deleted. So a pair has its count in one place.
--
-- user_digest: 128 bits of a digest of the user, under a key derived from a server secret. The
--   counts of a user are adjacent, and can be summed without the names of the purposes.
-- purpose_digest: 64 bits of a digest of user and purpose under the same key. It need only be
--   unique among the purposes of one user.
-- consecutive_wrong: as in otps.
-- counted_at: when the last wrong attempt was made, in UTC, of the database's clock.
--
-- A row expires when counted_at is 30 days old, unless its count is a lock that only an operator
-- ends. A row of a secret that is no longer configured is not found, and expires in the same way.
-- Indexes: the primary key finds and locks the counts of a user, after the otps rows of users and
-- before all other locks; the sweep reads in its order.
--
-- Stop all processes of an earlier version first: they do not know the counts of this table.

INSERT IGNORE INTO schema_migrations (version, name, started_at)
VALUES (9, '0009-wrong-counts', UTC_TIMESTAMP(6));

CREATE TABLE wrong_counts (
  user_digest BINARY(16) NOT NULL,
  purpose_digest BINARY(8) NOT NULL,
  consecutive_wrong SMALLINT UNSIGNED NOT NULL,
  counted_at DATETIME(6) NOT NULL,
  PRIMARY KEY (user_digest, purpose_digest)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 9;
