/**
 * A statement reads by the keys that it names, also in tables so small that the server estimates a
 * scan to be cheaper: a scan would lock rows of other transactions.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openConnection } from '../../src/db/connection.ts';
import type { Connection } from '../../src/db/connection.ts';
import type { Query, Value } from '../../src/db/query.ts';
import {
  deleteVerifications, eraseVerifications, freeExpiredKeys, loadStoredRequests,
  lockStoredVerifications,
} from '../../src/db/tables/idempotency-keys.ts';
import { clampSlots, lockSlots } from '../../src/db/tables/ip-limits.ts';
import {
  clampHits, deleteHits, lockHitCounters, readHits,
} from '../../src/db/tables/limit-hits.ts';
import { findUsers, lockOtps, readOtpsOfUsers } from '../../src/db/tables/otps.ts';
import type { Otp } from '../../src/db/tables/otps.ts';
import {
  clampKeys, clampOtps, deleteOtps, storeAttempts, storeFailures, stripToKeys,
} from '../../src/db/tables/otps-write.ts';
import {
  claimBatches, deleteBatches, findExpiredBatches, findLongLeases, findUnsent, leaseBatches,
  lockOwnBatches, readClaimed, replaceBatches, shortenLeases,
} from '../../src/db/tables/outbox.ts';
import {
  deleteWrongCounts, keepCountsOf, lockWrongCounts,
} from '../../src/db/tables/wrong-counts.ts';
import type { Transaction } from '../../src/db/transaction.ts';
import { createTestDatabase } from '../harness/database.ts';
import type { TestDatabase } from '../harness/database.ts';
import { newSweeper, SWEEP_PASSES } from '../harness/service.ts';

let database: TestDatabase;
let connection: Connection;

test.before(async () => {
  database = await createTestDatabase(1);
  connection = await openConnection(database.settings);
});
test.after(() => {
  connection.destroy();
  database.close();
});

const hex = (index: number, bytes: number): string => index.toString(16).padStart(2 * bytes, '0');

function otpOf(index: number): Otp {
  return {
    userId: `u${index}`, purpose: 'p', device: '', number: 1, otpId: hex(index, 16), keyId: 'k',
    digest: null, createdAt: 0, expiresAt: 0, redeemedAt: null, wrongAttempts: 0,
    lastWrongAt: null, lockedUntil: null, consecutiveWrong: 0, verifyIds: hex(1, 8),
    batchId: hex(index, 8), batchNumber: 0, channel: 'sms', closeReason: null, isRefunded: false,
    codeDigits: 6, attemptsMax: 3, lockSeconds: 600, keyDigest: null, keyExpiresAt: null,
    remainingRequests: 2, apiClient: null,
  };
}

/** Every statement that names its rows by a list of keys. */
function statementsOf(indexes: readonly number[]): Query<unknown>[] {
  const otps = indexes.map(otpOf);
  const users = otps.map(({ userId }) => userId);
  const ids = otps.map(({ batchId }) => batchId);
  const digests = otps.map(({ otpId }) => otpId);
  const lease = { owner: hex(1, 8), leasedUntil: 0 };
  const names = otps.map(({ otpId, batchId }) => ({ userDigest: otpId, purposeDigest: batchId }));
  const subjects = users.map((subject) => ({ subject, kind: 1 }));
  const verifications = digests.map((otpId) =>
    ({ keyDigest: otpId, fingerprint: otpId, keyId: 'k', otpId, keyExpiresAt: 0 }));
  const failure = { channel: null, reason: 'x' };
  return [
    lockOtps(users), findUsers(otps), readOtpsOfUsers(otps), storeAttempts(otps),
    storeFailures(otps.map((otp) => ({ otp, failure }))), deleteOtps(otps), clampOtps(users),
    stripToKeys(otps.map((otp) => ({ otp, fingerprint: otp.otpId }))), clampKeys(digests),
    lockSlots(users), clampSlots(users), lockHitCounters(subjects), clampHits(subjects),
    readHits(subjects, subjects.map((one) => ({ ...one, quota: 3, windowSeconds: 60 })), 3),
    deleteHits(subjects.map((one) => ({ ...one, number: 1, usedAt: 0, points: 1 }))),
    loadStoredRequests(digests), freeExpiredKeys(digests), lockStoredVerifications(digests),
    eraseVerifications(verifications), deleteVerifications(verifications),
    replaceBatches(ids.map((batchId) =>
      ({ batchId, otpIds: [hex(1, 16)], keyId: 'k', sealed: '' })), lease.owner),
    deleteBatches(ids), leaseBatches(ids, lease), claimBatches(ids, lease),
    shortenLeases(ids, 20), readClaimed(ids, lease), lockOwnBatches(ids, lease.owner),
    findUnsent(ids), findExpiredBatches(50), findLongLeases(20), lockWrongCounts(digests),
    deleteWrongCounts(names), keepCountsOf(otps.map((otp, index) =>
      ({ ...names[index]!, batchId: otp.batchId, batchNumber: 0 })), 'created_at <= NOW(6)'),
  ];
}

const SWEPT = ['otps', 'limit_hits', 'ip_rate_limits', 'ip_rate_overflow', 'idempotency_keys',
  'wrong_counts'];
const TABLES = [...SWEPT, 'outbox'];

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

async function refill(size: number): Promise<void> {
  const indexes = upTo(size);
  for (const table of TABLES) await connection.run('clear', `DELETE FROM ${table}`, []);
  const rows: [string, (index: number) => Value[]][] = [
    [`otps (user_id, number, purpose, otp_id, key_id, code_digits, attempts_max, lock_seconds,
      created_at, expires_at, channel, batch_id, batch_number, remaining_requests, key_digest)
      VALUES (?, 1, 'p', X?, 'k', 6, 3, 600, NOW(6), NOW(6), 'sms', X?, 0, 2, X?)`,
    (index) => [`u${index}`, hex(index, 16), hex(index, 8), hex(index, 16)]],
    ["outbox VALUES (X?, '', 'k', '', X'01', NOW(6))", (index) => [hex(index, 8)]],
    ['limit_hits VALUES (?, 1, 0, NOW(6), 0, 1), (?, 1, 1, NOW(6), 1, NULL)',
      (index) => [`u${index}`, `u${index}`]],
    ['ip_rate_limits VALUES (?, 0, NOW(6), 1, 0)', (index) => [`u${index}`]],
    ['ip_rate_overflow VALUES (?, NOW(6), 1, 1)', (index) => [`u${index}`]],
    ["idempotency_keys VALUES (NULL, X?, '', 'k', '', NOW(6))", (index) => [hex(index, 16)]],
    ['wrong_counts VALUES (X?, X?, 1, NOW(6))', (index) => [hex(index, 16), hex(index, 8)]],
  ];
  for (const [row, valuesOf] of rows) {
    await connection.runAll('fill', indexes.map((index) =>
      ({ sql: `INSERT INTO ${row}`, values: valuesOf(index) })));
  }
  await connection.run('commit', 'COMMIT', []);
  for (const table of TABLES) await connection.run('analyze', `ANALYZE TABLE ${table}`, []);
}

/** The tables that the server would scan; a read without locks may scan an index. */
async function scanned({ name, sql, values }: Query<unknown>): Promise<string[]> {
  const scans = /^SELECT(?!.*FOR UPDATE$)/s.test(sql) ? ['ALL'] : ['ALL', 'index', 'index_merge'];
  const rows = await connection.run('explain', `EXPLAIN FORMAT=TRADITIONAL ${sql}`, values);
  return rows.filter(({ table, type, select_type: kind }) => kind !== 'INSERT'
    && TABLES.concat('t', 'one', 'head', 'all_of').includes(String(table))
    && scans.includes(String(type)))
    .map(({ table, type }) => `${name}: ${table} ${type}`);
}

for (const size of [2, 20, 300]) {
  test(`no statement scans a table of ${size} rows`, async () => {
    await refill(size);
    const scans: string[] = [];
    for (const keys of [1, 2, 20, 300]) {
      for (const statement of statementsOf(upTo(keys))) {
        scans.push(...(await scanned(statement)).map((scan) => `${keys} keys: ${scan}`));
      }
    }
    assert.equal(scans, []);
  });

  test(`no statement of the sweep scans a table of ${size} rows`, async () => {
    await refill(size);
    await connection.run('clock', 'SET timestamp = UNIX_TIMESTAMP() + 10000000', []);
    const statements: Query<unknown>[] = [];
    const read = async (...queries: Query<unknown>[]): Promise<unknown[]> => {
      statements.push(...queries);
      const answers: unknown[] = [];
      for (const query of queries) {
        answers.push(query.read(await connection.run(query.name, query.sql, query.values)));
      }
      return answers;
    };
    const tx = { read, writes: statements } as unknown as Transaction;
    const sweeper = newSweeper();
    const near = { batchId: '', userId: '', clientIp: '' };
    for (let step = 0; step < 3 * SWEEP_PASSES; step += 1) {
      const { inspect, beforeCommit } = sweeper.next(5000, near)!;
      inspect.read(await connection.run(inspect.name, inspect.sql, inspect.values));
      await beforeCommit(tx);
    }
    await connection.run('clock', 'SET timestamp = DEFAULT', []);
    const deleted = statements.filter(({ name }) => name.endsWith('.sweep_delete'));
    assert.equal([...new Set(deleted.map(({ name }) => name.split('.')[0]))].sort(),
      [...SWEPT].sort());
    const scans: string[] = [];
    for (const statement of statements) scans.push(...await scanned(statement));
    assert.equal(scans, []);
  });
}

test('an erasure waits for no batch that it does not name', async () => {
  await refill(3);
  const other = await openConnection(database.settings);
  await other.run('hold', 'SELECT 1 FROM outbox WHERE batch_id = X? FOR UPDATE', [hex(2, 8)]);
  const { name, sql, values } = deleteBatches([hex(0, 8), hex(1, 8)]);
  await connection.run(name, sql, values);
  other.destroy();
  await connection.run('end', 'ROLLBACK', []);
});

test.run();
