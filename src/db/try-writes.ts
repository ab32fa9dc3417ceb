/** Whether an account may do what serving needs: tried, with nothing changed. */
import { KEY_DIGEST_BYTES } from './request-keys.ts';
import type { Session } from './session.ts';
import { StatementError } from './statement-error.ts';
import type { Layout } from './table-layout.ts';
import { insertOtps } from './write-otps.ts';

/** A right that the account lacks. */
export type Denied = Readonly<{ privilege: string; table: string }>;

/** What the account lacks; or what else stood in the way. */
export type WriteTrial = Readonly<{ denied: readonly Denied[]; failure: StatementError | null }>;

/** Errors by which the server says that the account may not. */
const DENIED_ERRNOS: ReadonlySet<number> = new Set([
  1044, // the database
  1142, // the table
  1143, // the column
]);

/**
 * Tries every statement on every table, on no row; then writes a row that no user can have, and
 * takes it back.
 *
 * @param layout the tables, with a column at least
 */
export async function tryWrites(session: Session, layout: Layout): Promise<WriteTrial> {
  const denied: Denied[] = [];
  try {
    for (const [table, { columns }] of layout) {
      const [column] = columns.keys();
      const trials = [
        ['SELECT', `SELECT 1 FROM ${table} LIMIT 0`],
        ['INSERT', `INSERT INTO ${table} SELECT * FROM ${table} WHERE FALSE`],
        ['UPDATE', `UPDATE ${table} SET ${column} = ${column} WHERE FALSE`],
        ['DELETE', `DELETE FROM ${table} WHERE FALSE`],
      ] as const;
      for (const [privilege, sql] of trials) {
        if (!(await mayRun(session, sql))) denied.push({ privilege, table });
      }
    }
    if (denied.length === 0) await writeAndTakeBack(session);
    return { denied, failure: null };
  } catch (error) {
    if (!(error instanceof StatementError)) throw error;
    return { denied, failure: error };
  } finally {
    if (!session.isDestroyed()) await session.run('rollback', 'ROLLBACK', []);
  }
}

async function mayRun(session: Session, sql: string): Promise<boolean> {
  try {
    await session.run('server.try', sql, []);
    return true;
  } catch (error) {
    if (error instanceof StatementError && DENIED_ERRNOS.has(error.errno)) return false;
    throw error;
  }
}

async function writeAndTakeBack(session: Session): Promise<void> {
  const { name, sql, values } = insertOtps([{
    userId: '', number: 0, purpose: '', otpId: '00'.repeat(16), keyId: '', digest: '',
    createdAt: 0, expiresAt: 0, redeemedAt: null, wrongAttempts: 0, lastWrongAt: null,
    lockedUntil: null, consecutiveWrong: 0, verifyIds: '', bundleId: '00'.repeat(8),
    bundleNumber: 0, channel: '', ending: null, isRefunded: false,
    codeDigits: 6, attemptsMax: 1, lockSeconds: 1, keyDigest: '00'.repeat(KEY_DIGEST_BYTES),
    keyExpiresAt: 0, remainingRequests: 0,
  }]);
  await session.run(name, sql, values);
}
