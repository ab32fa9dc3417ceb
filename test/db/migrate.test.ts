import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openConnection } from '../../src/db/connection.ts';
import {
  createDatabase, migrate, readSchemaFiles, readSchemaStatus, SchemaError, splitStatements,
} from '../../src/db/migrate.ts';
import type { SchemaFile } from '../../src/db/migrate.ts';
import { ConnectionPool } from '../../src/db/pool.ts';
import { newDatabaseName, openTestDatabase, settingsFor } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { ROOT } from '../harness/program.ts';
import { errorOf } from '../harness/waiting.ts';

const FILES = readSchemaFiles();
const NEXT = `${String(FILES.length + 1).padStart(4, '0')}-next`;
const ignore = (): void => {};

async function emptyDatabase(connectionsMax = 4): Promise<TestDatabase> {
  const settings = settingsFor(newDatabaseName());
  await createDatabase(settings);
  return openTestDatabase(settings, connectionsMax);
}

/** A file of the next version with the given statements. */
function fileWith(...statements: string[]): SchemaFile {
  const version = FILES.length + 1;
  const open = `INSERT INTO schema_migrations (version, name, started_at)
    VALUES (${version}, '${NEXT}', UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE name = '${NEXT}'`;
  const close = `UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6)
    WHERE version = ${version}`;
  return { version, name: NEXT, statements: [open, ...statements, close] };
}

test('migrate applies every file to an empty database, and nothing the second time', async () => {
  const db = await emptyDatabase();
  const before = await readSchemaStatus(db.pool);
  assert.is(before.pending.length, FILES.length);
  const lines: string[] = [];
  assert.is(await migrate(db.pool, (line) => lines.push(line)), FILES.length - 1);
  assert.equal(lines, [`schema ${FILES[1]!.name} to ${FILES.at(-1)!.name}: applying`]);
  assert.equal(await readSchemaStatus(db.pool), { pending: [], conflict: null });
  assert.is(await migrate(db.pool, ignore), 0);
  db.close();
});

/** How the server stores the tables, and how each column compares. */
async function definitionOf({ query }: TestDatabase): Promise<unknown> {
  return [
    await query(`SELECT table_name, engine, row_format FROM information_schema.tables
      WHERE table_schema = DATABASE() ORDER BY table_name`),
    await query(`SELECT table_name, column_name, column_type, is_nullable, column_default,
      collation_name FROM information_schema.columns
      WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position`),
  ];
}

const DEFAULTS = [
  'default_storage_engine = MyISAM', 'sql_require_primary_key = ON',
  'explicit_defaults_for_timestamp = OFF', 'explicit_defaults_for_timestamp = ON',
  'innodb_strict_mode = OFF', 'innodb_strict_mode = ON',
  'sql_generate_invisible_primary_key = ON',
];

test('the tables are the same whatever defaults the server has', async () => {
  const usual = await emptyDatabase();
  await migrate(usual.pool, ignore);
  const expected = await definitionOf(usual);
  const [row] = await usual.query('SELECT @@innodb_default_row_format AS format');
  try {
    for (const format of ['COMPACT', 'REDUNDANT', String(row?.format)]) {
      await usual.query(`SET GLOBAL innodb_default_row_format = ${format}`);
      for (const assignment of DEFAULTS) {
        const db = await emptyDatabase();
        await db.query(`ALTER DATABASE ${db.settings.database} COLLATE latin1_swedish_ci`);
        const pool = new ConnectionPool(async () => {
          const connection = await openConnection(db.settings);
          await connection.run('test', `SET SESSION ${assignment}`, []);
          return connection;
        }, 2);
        assert.is(await migrate(pool, ignore), FILES.length - 1, `${format}, ${assignment}`);
        assert.equal(await definitionOf(db), expected, `${format}, ${assignment}`);
        pool.close();
        db.close();
      }
    }
  } finally {
    await usual.query(`SET GLOBAL innodb_default_row_format = ${row?.format}`);
    usual.close();
  }
});

test('ten concurrent migrations apply each file once, and none fails', async () => {
  const db = await emptyDatabase(20);
  const counts = await Promise.all(Array.from({ length: 10 }, () => migrate(db.pool, ignore)));
  assert.equal(counts.sort(), [0, 0, 0, 0, 0, 0, 0, 0, 0, FILES.length - 1]);
  db.close();
});

/** Everything that a refused migration must leave unchanged. */
async function contentOf({ query }: TestDatabase): Promise<unknown> {
  return [await query('SHOW TABLES'), await query('SELECT * FROM schema_migrations')];
}

test('migrate refuses the database of a newer otpd and leaves it unchanged', async () => {
  const db = await emptyDatabase();
  await migrate(db.pool, ignore);
  await db.query(`INSERT INTO schema_migrations VALUES (99, '0099-later', NOW(6), NOW(6))`);
  const before = await contentOf(db);
  const files = [...FILES, fileWith('CREATE TABLE never (a INT)')];
  const error = await errorOf(migrate(db.pool, ignore, files));
  assert.instance(error, SchemaError);
  assert.match((error as Error).message,
    /schema file 0099-later of a newer otpd\nrun that version or a later one/);
  assert.equal(await contentOf(db), before);
  db.close();
});

/** The schema files from before the first release, which seven other files replaced. */
const EARLIER = ['0001-schema-migrations', '0002-otps', '0003-ip-rate-limits',
  '0004-ip-rate-overflow', '0005-idempotency-keys', '0006-outbox', '0007-otps-delivery',
  '0008-ip-rate-limits-refunded', '0009-otps-policy', '0010-limit-uses', '0011-otps-in-order',
  '0012-otps-keys', '0013-verification-keys'];

for (const [state, count, unfinished] of [
  ['migrated', EARLIER.length, 0],
  ['half migrated', 7, 7],
  ['interrupted in its second file', 2, 2],
] as const) {
  test(`migrate refuses a database from before the first release by name: ${state}`, async () => {
    const db = await emptyDatabase();
    for (const sql of FILES[0]!.statements) await db.query(sql);
    for (const [index, name] of EARLIER.slice(1, count).entries()) {
      await db.query('INSERT INTO schema_migrations VALUES (?, ?, NOW(6), NOW(6))',
        [index + 2, name]);
    }
    await db.query('UPDATE schema_migrations SET finished_at = NULL WHERE version = ?',
      [unfinished || 99]);
    const before = await contentOf(db);
    const error = await errorOf(migrate(db.pool, ignore));
    assert.instance(error, SchemaError);
    assert.match((error as Error).message,
      /schema file 0002-otps from before the first release\nuse a new database/);
    assert.is.not((await readSchemaStatus(db.pool)).conflict, null);
    assert.equal(await contentOf(db), before);
    db.close();
  });
}

test('files applied by hand do not hide a file from before the first release', async () => {
  const db = await emptyDatabase();
  for (const sql of FILES[0]!.statements) await db.query(sql);
  await db.query(`INSERT INTO schema_migrations VALUES (2, '0002-otps', NOW(6), NOW(6))`);
  for (const sql of FILES[1]!.statements) await db.query(sql);
  assert.match((await readSchemaStatus(db.pool)).conflict!.reason, /0002-otps/);
  db.close();
});

test('migrate names the file that fails, and resumes it once it is repaired', async () => {
  const db = await emptyDatabase();
  await migrate(db.pool, ignore);
  const first = 'CREATE TABLE half_applied (a INT)';
  const broken = fileWith(first, 'CREATE TABLE half_applied_2 (a NONSENSE)');
  try {
    await migrate(db.pool, ignore, [...FILES, broken]);
    assert.unreachable();
  } catch (error) {
    const { message } = error as Error;
    assert.match(message, new RegExp(`statement 3 of schema/${NEXT}\\.sql failed`));
  }
  const repaired = [...FILES, fileWith(first, 'CREATE TABLE half_applied_2 (a INT)')];
  assert.equal((await readSchemaStatus(db.pool, repaired)).pending, [NEXT]);
  const lines: string[] = [];
  assert.is(await migrate(db.pool, (line) => lines.push(line), repaired), 1);
  assert.match(lines.join('\n'), new RegExp(`${NEXT}: resuming an interrupted file`));
  assert.equal(await readSchemaStatus(db.pool, repaired), { pending: [], conflict: null });
  db.close();
});

test('an existing table fails a file that was not interrupted', async () => {
  const db = await emptyDatabase();
  await migrate(db.pool, ignore);
  await db.query('CREATE TABLE taken (a INT)');
  try {
    await migrate(db.pool, ignore, [...FILES, fileWith('CREATE TABLE taken (a INT)')]);
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /ER_TABLE_EXISTS_ERROR/);
  }
  db.close();
});

test('files applied by hand leave the same record as migrate', async () => {
  const byHand = await emptyDatabase();
  for (const { statements } of FILES) {
    for (const sql of statements) await byHand.query(sql);
  }
  assert.equal(await readSchemaStatus(byHand.pool), { pending: [], conflict: null });
  assert.is(await migrate(byHand.pool, ignore), 0);
  byHand.close();
});

test('the schema compares names by byte, counts OTPs per user and keeps microseconds', async () => {
  const db = await emptyDatabase();
  await migrate(db.pool, ignore);
  const insert = `INSERT INTO otps (user_id, number, purpose, otp_id, key_id, digest,
    code_digits, attempts_max, lock_seconds, created_at, expires_at, channel, batch_id,
    batch_number, remaining_requests)
    VALUES (?, 1, 'login', RANDOM_BYTES(16), 'k', NULL, 6, 3, 600, NOW(6), NOW(6), 'sms',
      RANDOM_BYTES(8), 0, 2)`;
  for (const user of ['u1', 'U1', 'u1 ', 'ú1', 'u\u03011', 'u1\u200b']) {
    await db.query(insert, [user]);
  }
  try {
    await db.query(insert, ['u1']);
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /ER_DUP_ENTRY/);
  }
  const times = await db.query(`SELECT table_name, column_name, data_type, datetime_precision AS p
    FROM information_schema.columns WHERE table_schema = DATABASE()
    AND data_type IN ('datetime', 'timestamp', 'date', 'time')`);
  assert.ok(times.length > 7);
  assert.ok(times.every(({ p, DATA_TYPE }) => DATA_TYPE === 'datetime' && p === 6));
  db.close();
});

test('schema files are numbered without gaps and split into statements', () => {
  assert.equal(FILES.map(({ version }) => version), FILES.map((_, index) => index + 1));
  assert.equal(splitStatements('-- a; b;\nSELECT 1;\n\nSELECT\n  ";x" ; \n-- end\n'), [
    'SELECT 1', 'SELECT\n  ";x"',
  ]);
  assert.throws(() => readSchemaFiles(join(ROOT, 'test/fixtures/misnumbered')),
    /0003-gap\.sql must have the number 2/);
});

test.run();
