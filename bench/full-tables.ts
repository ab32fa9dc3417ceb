/**
 * How throughput changes with millions of rows: empty tables and full ones by turns, with the
 * default buffer pool of MySQL and with one that holds the rows.
 */
import { setTimeout as delay } from 'node:timers/promises';
import mysql from 'mysql2/promise';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { print } from './build.ts';
import type { Lab } from './lab.ts';
import type { Plan } from './options.ts';
import { freshRequest, freshRequests } from './requests.ts';
import { describe, warmUp } from './rounds.ts';
import type { Sample } from './rounds.ts';
import type { Target } from './target.ts';

const CONNECTIONS = 64;
const RATE_MAX = 20_000;

/** Rows that a user owns, and rows that are only kept for their idempotency key. */
const USERS = 5_000_000;
const KEYS_ONLY = 5_000_000;

/** Rows of one INSERT: few enough for the undo log. */
const BATCH_ROWS = 250_000;

const BUFFER_POOL_BYTES = 4 * 2 ** 30;
const REDO_LOG_BYTES = 2 * 2 ** 30;
const RESIZE_POLL_MS = 100;
const RESIZE_TIMEOUT_MS = 60_000;

/**
 * The unique indexes in which new rows fall between existing ones, with the share of a page that
 * is filled when they are built. Pages of an index whose rows arrived in random order are about
 * this full; full pages would all be split by the first rows of the measurement.
 */
const INDEXES = [{ name: 'by_user', columns: 'user_id, number' },
  { name: 'by_key', columns: 'key_digest' }];
const PAGE_FILL_PERCENT = 70;

/** The rows are live for the whole run, so that the sweeper removes none of them. */
const LIVE = 'UTC_TIMESTAMP(6) + INTERVAL 1 DAY';

/** Columns that differ from the row of a real request, which the others are copied from. */
const COLUMNS: ReadonlyMap<string, string> = new Map([
  ['otp_id', 'RANDOM_BYTES(16)'],
  ['digest', 'RANDOM_BYTES(32)'],
  ['key_digest', 'RANDOM_BYTES(16)'],
  ['fingerprint', 'RANDOM_BYTES(16)'],
  ['created_at', 'UTC_TIMESTAMP(6)'],
  ['expires_at', LIVE],
  ['key_expires_at', LIVE],
  ...['bundle', 'batch'].flatMap((name) => [
    [`${name}_id`, 'UNHEX(LPAD(HEX((@first + n) DIV 64), 16, \'0\'))'],
    [`${name}_number`, '(@first + n) % 64'],
  ] as const),
]);

/** 16 hexadecimal digits that grow with the row and spread over the range of 64 bits. */
const USER = 'LOWER(LPAD(HEX((@first + n) * CAST(@step AS UNSIGNED)), 16, \'0\'))';

/** Reads every row and every index entry once. */
const WARM_UP = [
  'SELECT COUNT(digest) FROM otps',
  'SELECT COUNT(*) FROM otps FORCE INDEX (by_user) WHERE user_id >= ""',
  'SELECT COUNT(*) FROM otps FORCE INDEX (by_key) WHERE key_digest >= ""',
];

/**
 * Measures requests on empty and on full tables.
 *
 * @param scale 1 for 10 million rows
 */
export async function measureFullTables(lab: Lab, plan: Plan, scale: number): Promise<Sample[]> {
  const empty = await lab.target('otpd', { label: 'otpd_empty' });
  const full = await lab.target('otpd', { label: 'otpd_full' });
  await withDatabase(lab, full, (connection) => fillTables(lab, full, connection, scale));
  const variants = [['empty tables', empty], ['full tables', full]] as const;
  for (const [, target] of variants) await warmUp(lab, target);
  const samples = await takeTurns(lab, plan, variants);
  print('giving MySQL memory for the full tables');
  await withDatabase(lab, full, enlargeMemory);
  return [...samples, ...await takeTurns(lab, plan,
    variants.map(([name, target]) => [`${name}, 4 GB buffer pool`, target]))];
}

async function takeTurns(
  lab: Lab,
  { rounds, seconds }: Plan,
  variants: readonly (readonly [workload: string, target: Target])[],
): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    for (const [workload, target] of variants) {
      const load = { target, connections: CONNECTIONS };
      await lab.send({ ...load, seconds: 1, requests: freshRequests(1, RATE_MAX) });
      const measured = await lab.measure({
        ...load, seconds, requests: freshRequests(seconds, RATE_MAX),
      });
      samples.push({ workload, target: 'otpd', connections: CONNECTIONS, round, ...measured });
      print(describe(samples.at(-1)!));
    }
  }
  return samples;
}

async function withDatabase(
  lab: Lab,
  { databaseName }: Target,
  work: (connection: Connection) => Promise<void>,
): Promise<void> {
  const { socketPath } = lab.server;
  const connection = await mysql.createConnection({
    socketPath, user: 'root', database: databaseName,
  });
  await work(connection);
  await connection.end();
}

/** Copies the row of one request; flushes, binary log and the two indexes are off meanwhile. */
async function fillTables(
  lab: Lab,
  target: Target,
  connection: Connection,
  scale: number,
): Promise<void> {
  await lab.prepare({ target, connections: 1, seconds: 1, requests: [freshRequest()] });
  await lab.setDurable(false);
  await connection.query(`SET sql_log_bin = 0, unique_checks = 0,
    cte_max_recursion_depth = ${BATCH_ROWS}`);
  await connection.query('CREATE TEMPORARY TABLE sample AS SELECT * FROM otps LIMIT 1');
  for (const { name } of INDEXES) await connection.query(`ALTER TABLE otps DROP KEY ${name}`);
  const users = Math.ceil(USERS * scale);
  await fill(connection, USER, 0, users);
  await fill(connection, 'NULL', users, users + Math.ceil(KEYS_ONLY * scale));
  print('building the indexes');
  await lab.query(`SET GLOBAL innodb_fill_factor = ${PAGE_FILL_PERCENT}`);
  for (const { name, columns } of INDEXES) {
    await connection.query(`ALTER TABLE otps ADD UNIQUE KEY ${name} (${columns})`);
  }
  await lab.setDurable(true);
}

async function fill(
  connection: Connection,
  userId: string,
  from: number,
  to: number,
): Promise<void> {
  const [columns] = await connection.query<RowDataPacket[]>('SHOW COLUMNS FROM otps');
  const names = columns.map(({ Field }) => String(Field));
  const values = names.map((name) => (name === 'user_id' ? userId
    : COLUMNS.get(name) ?? `sample.${name}`));
  await connection.query('SET @step = ?', [String(2n ** 64n / BigInt(Math.max(2, to)))]);
  for (let first = from; first < to; first += BATCH_ROWS) {
    const rows = Math.min(BATCH_ROWS, to - first);
    await connection.query(`SET @first = ${first}`);
    await connection.query(`INSERT INTO otps (${names.join(', ')})
      WITH RECURSIVE numbers (n) AS
        (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ${rows})
      SELECT ${values.join(', ')} FROM numbers, sample`);
    print(`filled: ${first + rows} rows`);
  }
}

/** Gives MySQL the memory of a machine for this many rows, and reads the rows into it. */
async function enlargeMemory(connection: Connection): Promise<void> {
  await connection.query(`SET GLOBAL innodb_redo_log_capacity = ${REDO_LOG_BYTES}`);
  await connection.query(`SET GLOBAL innodb_buffer_pool_size = ${BUFFER_POOL_BYTES}`);
  const deadline = AbortSignal.timeout(RESIZE_TIMEOUT_MS);
  for (;;) {
    const [rows] = await connection.query<RowDataPacket[]>(
      "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_resize_status_code'");
    if (Number(rows[0]?.Value) === 0) break;
    deadline.throwIfAborted();
    await delay(RESIZE_POLL_MS);
  }
  for (const sql of WARM_UP) await connection.query(sql);
}
