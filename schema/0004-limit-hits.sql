-- limit_hits: the points that user_daily_limit, destination_limit and wrong_codes_limit count.
--
-- Why: hits are numbered, so that one look-up decides a limit of any height. A limit of L has room
-- when hit number (newest - L + 1) is older than the window, or was swept. The row with number 0 is
-- the head of its subject and kind: a transaction that takes a point locks the head, after the rows
-- of users and client IPs. For a subject without a head the primary key decides: the second of two
-- transactions that insert the head fails, and runs again with the row of the first.
--
-- subject: what the limit counts for: a user_id (kind 1), the first digits of a phone number or the
--   domain of an e-mail address (kind 2), or a client IP as in ip_rate_limits (kind 3).
-- kind: 1 OTPs of a user per day, 2 OTPs to a destination per hour, 3 wrong codes from a client IP
--   per hour.
-- number: 0 for the head. Otherwise the running count of the points of the subject, including this
--   row. The count of a new subject starts at the current time in microseconds, so that no number
--   is used twice when a head is swept before the hits of its subject.
-- used_at: when the points were taken, in UTC, of the database's clock; never before the used_at of
--   a lower number. For a head: when the newest point was taken.
-- points: how many points were taken at used_at. For a head: 0.
-- newest: for a head, the number of its newest hit. NULL: the row is a hit.
--
-- A row expires with its window: when used_at is a day (kind 1) or an hour (kinds 2, 3) old. A
-- transaction that takes a point deletes up to two expired hits of the subject; the sweep deletes
-- the rest.
-- Indexes: the primary key finds the head of a subject, its oldest hits, and a hit by its number;
-- the sweep reads in its order.

INSERT IGNORE INTO schema_migrations (version, name, started_at)
VALUES (4, '0004-limit-hits', UTC_TIMESTAMP(6));

CREATE TABLE limit_hits (
  subject VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
  kind TINYINT UNSIGNED NOT NULL,
  number BIGINT NOT NULL,
  used_at DATETIME(6) NOT NULL,
  points INT UNSIGNED NOT NULL,
  newest BIGINT NULL,
  PRIMARY KEY (subject, kind, number)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 4;
