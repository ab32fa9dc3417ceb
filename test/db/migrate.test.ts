import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  createDatabase, migrate, readSchemaFiles, readSchemaStatus, SchemaError, splitStatements,
} from '../../src/db/migrate.ts';
import type { SchemaFile } from '../../src/db/migrate.ts';
import { newDatabaseName, openTestDatabase, settingsFor } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { ROOT } from '../harness/program.ts';

const FILES = readSchemaFiles();
const NEXT = `${String(FILES.length + 1).padStart(4, '0')}-next`;
const quiet = (): void => {};

/** The files that come before one. */
function filesBefore(name: string): SchemaFile[] {
  return FILES.slice(0, FILES.findIndex((file) => file.name === name));
}

const [KEPT, GONE] = [Buffer.alloc(16, 1), Buffer.alloc(16, 2)] as const;

async function emptyDatabase(sessionsMax = 4): Promise<TestDatabase> {
  const settings = settingsFor(newDatabaseName());
  await createDatabase(settings);
  return openTestDatabase(settings, sessionsMax);
}

/** A further file of the newest version: one table, then a statement that may fail. */
function fileWith(...statements: string[]): SchemaFile {
  const version = FILES.length + 1;
  const open = `INSERT INTO schema_migrations (version, name, started_at)
    VALUES (${version}, '${NEXT}', UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE name = '${NEXT}'`;
  const close = `UPDATE schema_migrations SET finished_at = UTC_TIMESTAMP(6)
    WHERE version = ${version}`;
  return { version, name: NEXT, statements: [open, ...statements, close] };
}

test('migrates an empty database, and finds nothing to do the second time', async () => {
  const db = await emptyDatabase();
  const before = await readSchemaStatus(db.pool);
  assert.is(before.pending.length, FILES.length);
  const said: string[] = [];
  assert.is(await migrate(db.pool, (line) => said.push(line)), FILES.length - 1);
  assert.match(said.join('\n'), /0002-otps: applying/);
  assert.equal(await readSchemaStatus(db.pool), { pending: [], isNewer: false });
  assert.is(await migrate(db.pool, quiet), 0);
  db.close();
});

test('ten runners at once: each file is applied once, nobody fails', async () => {
  const db = await emptyDatabase(20);
  const counts = await Promise.all(Array.from({ length: 10 }, () => migrate(db.pool, quiet)));
  assert.equal(counts.sort(), [0, 0, 0, 0, 0, 0, 0, 0, 0, FILES.length - 1]);
  db.close();
});

test('refuses a database newer than itself, and changes nothing', async () => {
  const db = await emptyDatabase();
  await migrate(db.pool, quiet);
  await db.query(`INSERT INTO schema_migrations VALUES (99, '0099-later', NOW(6), NOW(6))`);
  assert.is((await readSchemaStatus(db.pool)).isNewer, true);
  try {
    await migrate(db.pool, quiet, [...FILES, fileWith('CREATE TABLE never (a INT)')]);
    assert.unreachable();
  } catch (error) {
    assert.instance(error, SchemaError);
    assert.match((error as Error).message, /newer than this otpd/);
  }
  assert.equal(await db.query(`SHOW TABLES LIKE 'never'`), []);
  db.close();
});

test('refuses a database that has seen another file under one of our numbers', async () => {
  const db = await emptyDatabase();
  await migrate(db.pool, quiet);
  await db.query(`UPDATE schema_migrations SET name = '0003-other' WHERE version = 3`);
  assert.equal(await readSchemaStatus(db.pool), { pending: [], isNewer: true });
  db.close();
});

test('names a file that fails, and resumes it once it is mended', async () => {
  const db = await emptyDatabase();
  await migrate(db.pool, quiet);
  const first = 'CREATE TABLE half_way (a INT)';
  const broken = fileWith(first, 'CREATE TABLE half_way_2 (a NONSENSE)');
  try {
    await migrate(db.pool, quiet, [...FILES, broken]);
    assert.unreachable();
  } catch (error) {
    const { message } = error as Error;
    assert.match(message, new RegExp(`statement 3 of schema/${NEXT}\\.sql failed`));
  }
  const mended = [...FILES, fileWith(first, 'CREATE TABLE half_way_2 (a INT)')];
  assert.equal((await readSchemaStatus(db.pool, mended)).pending, [NEXT]);
  const said: string[] = [];
  assert.is(await migrate(db.pool, (line) => said.push(line), mended), 1);
  assert.match(said.join('\n'), new RegExp(`${NEXT}: it was left half-applied; resuming it`));
  assert.equal(await readSchemaStatus(db.pool, mended), { pending: [], isNewer: false });
  db.close();
});

test('a fresh file that finds its table there is a fault, not a resumption', async () => {
  const db = await emptyDatabase();
  await migrate(db.pool, quiet);
  await db.query('CREATE TABLE taken (a INT)');
  try {
    await migrate(db.pool, quiet, [...FILES, fileWith('CREATE TABLE taken (a INT)')]);
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /ER_TABLE_EXISTS_ERROR/);
  }
  db.close();
});

test('a DBA may feed the files by hand: the record is the same', async () => {
  const byHand = await emptyDatabase();
  for (const { statements } of FILES) {
    for (const sql of statements) await byHand.query(sql);
  }
  assert.equal(await readSchemaStatus(byHand.pool), { pending: [], isNewer: false });
  assert.is(await migrate(byHand.pool, quiet), 0);
  byHand.close();
});

test('codes that were issued before they were kept in order are brought into it', async () => {
  const db = await emptyDatabase();
  const before = filesBefore('0011-otps-in-order');
  await migrate(db.pool, quiet, before);
  const insert = `INSERT INTO otps (user_id, slot, number, purpose, otp_id, key_id, created_at,
    expires_at, bundle_id) VALUES (?, ?, ?, 'login', RANDOM_BYTES(16), 'k', NOW(6), NOW(6), ?)`;
  const [one, other] = [Buffer.alloc(8, 1), Buffer.alloc(8, 2)];
  const kept = [['u1', 0, 3, one], ['u1', 1, 2, one], ['u2', 0, 1, one], ['u2', 1, 2, other],
    ['u3', 0, 1, null], ['u4', 7, 9, null]];
  for (const row of kept) await db.query(insert, row);
  const inOrder = () => db.query(`SELECT user_id, number, HEX(bundle_id) AS bundle, bundle_number
    FROM otps ORDER BY user_id, number`);
  assert.is(await migrate(db.pool, quiet), FILES.length - before.length);
  const rows = await inOrder();
  assert.equal(rows.map(({ user_id, number }) => `${String(user_id)} ${String(number)}`),
    ['u1 2', 'u1 3', 'u2 1', 'u2 2', 'u3 1', 'u4 9']);
  assert.equal(rows.map(({ bundle_number }) => bundle_number), [0, 1, 2, 0, 0, 0]);
  assert.is(new Set(rows.map(({ batch }) => batch)).size, 4);
  // Begun once more, as after a crash before its end was noted, it changes nothing.
  await db.query(`UPDATE schema_migrations SET finished_at = NULL WHERE name LIKE '%-in-order'`);
  assert.is(await migrate(db.pool, quiet), 1);
  assert.equal(await inOrder(), rows);
  db.close();
});

test('keys of requests move into the rows of their codes', async () => {
  const db = await emptyDatabase();
  const before = filesBefore('0012-otps-keys');
  await migrate(db.pool, quiet, before);
  await db.query(`INSERT INTO otps (user_id, number, purpose, otp_id, key_id, created_at,
    expires_at, bundle_id, bundle_number) VALUES ('u', 1, 'login', ?, 'k', NOW(6), NOW(6), 'b', 0)`,
  [KEPT]);
  const stored = [[KEPT, 'asked', null], [GONE, 'over', null], [KEPT, 'verified', 'k']];
  for (const [otpId, key, keyId] of stored) {
    await db.query(`INSERT INTO idempotency_keys (key_digest, fingerprint, key_id, otp_id,
      ttl_seconds, remaining_requests, expires_at)
      VALUES (?, REPEAT('f', 16), ?, ?, 300, 2, '2030-01-01')`,
    [key!, keyId!, otpId!]);
  }
  // Begun once more, as after a crash before its end was noted, it changes nothing.
  for (const count of [before.length + 1, before.length + 1, FILES.length, FILES.length]) {
    await migrate(db.pool, quiet, FILES.slice(0, count));
    await db.query('UPDATE schema_migrations SET finished_at = NULL WHERE version = ?', [count]);
  }
  const codes = await db.query(`SELECT user_id, number, TRIM('\\0' FROM key_digest) AS digest,
    DATE(key_expires_at) AS ends, remaining_requests, CAST(fingerprint AS CHAR) AS used_for,
    TIMESTAMPDIFF(SECOND, created_at, expires_at) AS ttl FROM otps ORDER BY number`);
  const keys = await db.query(`SELECT TRIM('\\0' FROM key_digest) AS digest, key_id
    FROM idempotency_keys`);
  assert.equal(codes.map((row) => Object.values(row).map(String)), [
    ['null', '0', 'over', '2030-01-01', '2', 'f'.repeat(16), '300'],
    ['u', '1', 'asked', '2030-01-01', '2', 'null', '0'],
  ]);
  assert.equal(keys.map((row) => Object.values(row).map(String)), [['verified', 'k']]);
  db.close();
});

test('a row per number of a user, byte-exact names, UTC microseconds: by the schema', async () => {
  const db = await emptyDatabase();
  await migrate(db.pool, quiet);
  const insert = `INSERT INTO otps (user_id, number, purpose, otp_id, key_id, digest,
    created_at, expires_at, bundle_id, bundle_number)
    VALUES (?, 1, 'login', RANDOM_BYTES(16), 'k', NULL, NOW(6), NOW(6), RANDOM_BYTES(8), 0)`;
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

test('files are numbered without gaps, and split into statements', () => {
  assert.equal(FILES.map(({ version }) => version), FILES.map((_, index) => index + 1));
  assert.equal(splitStatements('-- a; b;\nSELECT 1;\n\nSELECT\n  ";x" ; \n-- end\n'), [
    'SELECT 1', 'SELECT\n  ";x"',
  ]);
  assert.throws(() => readSchemaFiles(join(ROOT, 'test/fixtures/misnumbered')),
    /0003-gap\.sql is not numbered 2/);
  assert.ok(readFileSync(join(ROOT, 'schema/0002-otps.sql'), 'utf8'));
});

test.run();
