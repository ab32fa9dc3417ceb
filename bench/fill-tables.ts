/** Fills the tables of an otpd by bulk SQL, as fast as that goes. */
import mysql from 'mysql2/promise';
import type { Connection } from 'mysql2/promise';
import { setDurable } from './codes.ts';
import type { Lab } from './lab.ts';
import { PURPOSE } from './requests.ts';
import type { Target } from './target.ts';

/** How many users with a code, and how many keys: beyond those of the codes, of earlier ones. */
export type Fill = Readonly<{ users: number; keys: number }>;

/** Rows of one INSERT: large enough to be fast, small enough for the undo log. */
const BATCH_ROWS = 250_000;

/** Users are spread over the whole range of 64 bits, so that new ones fall between them. */
const USER_RANGE = 2n ** 64n;

const NUMBERS = `WITH RECURSIVE numbers (n) AS
  (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?) SELECT`;

/** Live for the whole benchmark: such rows are never swept, and the tables keep their size. */
const LIVE = 'UTC_TIMESTAMP(6) + INTERVAL 1 DAY';

/** The 16 hexadecimal digits of row number ? + n with a step of ?. */
const HEX = 'LPAD(HEX((CAST(? AS UNSIGNED) + n) * CAST(? AS UNSIGNED)), 16, \'0\')';

/** Codes of a user each, or of none: such are kept for their keys. */
const codesOf = (user: string): string => `INSERT INTO otps (user_id, number, purpose,
  otp_id, key_id, digest, code_digits, attempts_max, lock_seconds, created_at, expires_at, channel,
  batch_id, batch_number, key_digest, key_expires_at, remaining_requests, fingerprint)
  ${NUMBERS} ${user}, 1, '${PURPOSE}', RANDOM_BYTES(16), 'bench', RANDOM_BYTES(32), 6, 3, 600,
  UTC_TIMESTAMP(6), ${LIVE}, 'console', UNHEX(LPAD(HEX((? + n) DIV 64), 16, '0')), (? + n) % 64,
  RANDOM_BYTES(16), ${LIVE}, 2, RANDOM_BYTES(16) FROM numbers`;

/** The indexes by which new rows fall between those that there are. */
const INDEXES = [
  { table: 'otps', name: 'by_user', columns: 'user_id, number' },
  { table: 'otps', name: 'by_key', columns: 'key_digest' },
];

/**
 * How full their pages are, in percent: as rows leave them that have come in no order. Filled in
 * the order of the keys a page would be full, and split as soon as it is written to.
 */
const PAGE_FILL_PERCENT = 70;

/** Fills the tables of a service; durability and the binary log are off meanwhile. */
export async function fillTables(
  lab: Lab,
  target: Target,
  { users, keys }: Fill,
  say: (line: string) => void,
): Promise<void> {
  const { socketPath } = lab.server;
  const session = await mysql.createConnection({
    socketPath, user: 'root', database: target.settings.database ?? '',
  });
  await setDurable(lab.counters, false);
  await session.query('SET sql_log_bin = 0, unique_checks = 0');
  await session.query(`SET cte_max_recursion_depth = ${BATCH_ROWS}`);
  for (const { table, name } of INDEXES) {
    await session.query(`ALTER TABLE ${table} DROP KEY ${name}`);
  }
  await fill(session, { isOfUsers: true, from: 0, to: users }, say);
  await fill(session, { isOfUsers: false, from: users, to: keys }, say);
  say('building the indexes');
  await lab.counters.run(`SET GLOBAL innodb_fill_factor = ${PAGE_FILL_PERCENT}`);
  for (const { table, name, columns } of INDEXES) {
    await session.query(`ALTER TABLE ${table} ADD UNIQUE KEY ${name} (${columns})`);
  }
  await setDurable(lab.counters, true);
  await session.end();
}

async function fill(
  session: Connection,
  { isOfUsers, from, to }: Readonly<{ isOfUsers: boolean; from: number; to: number }>,
  say: (line: string) => void,
): Promise<void> {
  const sql = codesOf(isOfUsers ? `LOWER(${HEX})` : 'NULL');
  const step = USER_RANGE / BigInt(Math.max(2, Math.ceil(to)));
  for (let done = from; done < to; done += BATCH_ROWS) {
    const rows = Math.min(BATCH_ROWS, to - done);
    const user = isOfUsers ? [String(done), String(step)] : [];
    await session.query(sql, [rows, ...user, done, done]);
    say(`filling: ${done + rows - from} ${isOfUsers ? 'codes' : 'keys of earlier codes'}`);
  }
}
