-- limit_uses: what the limits beyond the contract's two have counted.
--
-- Codes of a user in a day, codes to a destination in an hour, wrong codes from an address in an hour.
--
-- Why numbers: with a limit of L one more is let through when the use that is L - 1 before the newest
-- is older than the window, or is there no more. That is one look-up, however high the limit is.
--
-- subject: whose uses they are: a user_id, the first digits of a phone number or the domain of a mail
--   address, or a client address as in ip_rate_limits.
-- kind: 1 codes of a user, 2 codes to a destination, 3 wrong codes from an address.
-- number: the uses of a subject are numbered in their order; a row stands for those that were made at
--   one time, and has the number of the last of them. 0 is the head of the subject: whoever counts a
--   use locks it first, after the rows of users and addresses. A subject that has none is decided by
--   the primary key: the second to insert it is rerun. The first number is the time in microseconds,
--   so that numbers never come back when the head was swept before some of its rows.
-- used_at: when the uses were made, never before those with lower numbers; of a head: the newest.
-- points: how many uses were made at that very time; of a head: 0.
-- newest: of a head the number of the newest use. NULL: no head.
--
-- A row is dead when its window is over: used_at is at least a day (kind 1) or an hour old. Whoever
-- counts a use erases two dead ones of the subject, and the rest is swept.
-- Indexes: the primary key finds the head of a subject, its oldest uses, and a use by its number.

INSERT INTO schema_migrations (version, name, started_at)
VALUES (10, '0010-limit-uses', UTC_TIMESTAMP(6))
ON DUPLICATE KEY UPDATE name = '0010-limit-uses';

CREATE TABLE limit_uses (
  subject VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
  kind TINYINT UNSIGNED NOT NULL,
  number BIGINT NOT NULL,
  used_at DATETIME(6) NOT NULL,
  points INT UNSIGNED NOT NULL,
  newest BIGINT NULL,
  PRIMARY KEY (subject, kind, number)
) ENGINE = InnoDB;

UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6) WHERE version = 10;
