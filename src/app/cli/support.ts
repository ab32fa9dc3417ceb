/** `otpd show`, `unlock` and `cancel`: the support commands. None of them prints a code. */
import type { ConnectionPool } from '../../db/pool.ts';
import type { PairName } from '../../db/tables/otps.ts';
import { cancelOtps } from '../../otp/cancel.ts';
import type { Secrets } from '../../otp/crypto/secrets.ts';
import { toRfc3339 } from '../../otp/outcomes.ts';
import type { CancelOutcome } from '../../otp/outcomes.ts';
import type { Policies } from '../../otp/policy/policy.ts';
import { unlockPair } from '../../otp/unlock.ts';
import { readUserReport } from '../../otp/user-report.ts';
import type { CodeReport, PairReport, UserReport } from '../../otp/user-report.ts';
import { UsageError } from '../output.ts';
import type { Report } from '../output.ts';

/** @throws Unavailable when the database cannot answer */
export async function show(
  deps: Readonly<{ pool: ConnectionPool; policies: Policies; secrets: Secrets }>,
  userId: string,
): Promise<Report> {
  const view = await readUserReport(deps, userId);
  if (view === null) {
    const data = { outcome: 'unknown', user_id: userId };
    return { isDone: false, lines: ['no record of this user'], data };
  }
  return { isDone: true, lines: toLines(userId, view), data: toData(userId, view) };
}

function toData(userId: string, report: UserReport): Report['data'] {
  const { now, freeAt, pairs, openCodes, keptWrong } = report;
  return {
    outcome: 'known',
    user_id: userId,
    now: toRfc3339(now),
    purposes: pairs.map((pair) => ({
      purpose: pair.purpose,
      limit: {
        quota: pair.quota,
        remaining: pair.remaining,
        free_at: freeAt.map(toRfc3339),
      },
      ...(pair.daily === null ? {} : { daily_limit: {
        quota: pair.daily.quota,
        remaining: pair.daily.remaining,
        free_at: pair.daily.freeAt === null ? null : toRfc3339(pair.daily.freeAt),
      } }),
      locked: pair.isLocked,
      locked_until: pair.lockedUntil === null ? null : toRfc3339(pair.lockedUntil),
      must_be_unlocked: pair.mustBeUnlocked,
      wrong_attempts: pair.wrongAttempts,
      wrong_attempts_max: pair.wrongAttemptsMax,
      wrong_in_a_row: pair.consecutiveWrong,
      wrong_in_a_row_max: pair.consecutiveWrongMax,
    })),
    open_codes: openCodes.map(toCodeData),
    ...(keptWrong.length === 0 ? {} : { kept_wrong_in_a_row: keptWrong }),
  };
}

/** The members of GET /otp/{otp_id} (docs/api.md, "GET /otp/{otp_id}"). */
function toCodeData({ otpId, purpose, status, channel, createdAt, expiresAt }: CodeReport): object {
  return {
    otp_id: otpId,
    purpose,
    status,
    channel,
    created_at: toRfc3339(createdAt),
    expires_at: toRfc3339(expiresAt),
  };
}

function toLines(userId: string, view: UserReport): string[] {
  const { now, freeAt, pairs, openCodes, keptWrong } = view;
  return [`user ${userId} at ${toRfc3339(now)}`, ...pairs.flatMap((pair) => [
    `purpose ${pair.purpose}`,
    `  limit     ${formatLimit(pair, freeAt.map(toRfc3339))}`,
    ...formatDailyLimit(pair),
    `  lock      ${formatLock(pair)}`,
    `  attempts  ${pair.wrongAttempts} of ${pair.wrongAttemptsMax} wrong until a lock, `
      + `${pair.consecutiveWrong} of ${pair.consecutiveWrongMax} wrong in a row until an operator `
      + 'must unlock',
    ...openCodes.filter(({ purpose }) => purpose === pair.purpose).map((code) =>
      `  code      ${code.otpId} ${code.status} by ${code.channel}, `
        + `created ${toRfc3339(code.createdAt)}, expires ${toRfc3339(code.expiresAt)}`),
  ]), ...keptWrong.map((count) =>
    `${count} wrong in a row for a purpose whose OTPs are no longer stored`)];
}

type Quota = Pick<PairReport, 'quota' | 'remaining'>;

function formatLimit({ quota, remaining }: Quota, freeAt: readonly string[]): string {
  const left = `${remaining} of ${quota} codes left`;
  return freeAt.length === 0 ? left : `${left}; one becomes free at ${freeAt.join(', ')}`;
}

function formatDailyLimit({ daily }: PairReport): string[] {
  if (daily === null) return [];
  const freeAt = daily.freeAt === null ? [] : [toRfc3339(daily.freeAt)];
  return [`  daily     ${formatLimit(daily, freeAt)}`];
}

function formatLock({ isLocked, lockedUntil, mustBeUnlocked }: PairReport): string {
  if (mustBeUnlocked) return 'until an operator runs otpd unlock';
  return isLocked && lockedUntil !== null ? `until ${toRfc3339(lockedUntil)}` : 'none';
}

const CANCEL_LINES: Readonly<Record<CancelOutcome['kind'], string>> = {
  canceled: 'canceled; the code no longer works',
  unknown: 'no record of this OTP_ID',
  forbidden: 'not canceled: another API client requested the code',
  used: 'not canceled: the code has been redeemed',
  expired: 'not canceled: the code no longer works',
};

/** @throws UsageError unless the text is an OTP id */
export function checkOtpId(text: string): void {
  if (!/^[0-9a-f]{32}$/.test(text)) throw new UsageError('OTP_ID must be 32 hexadecimal digits');
}

/** @throws Unavailable when the database cannot answer */
export async function cancel(
  deps: Readonly<{ pool: ConnectionPool; secrets: Secrets }>,
  otpId: string,
): Promise<Report> {
  const [outcome] = await cancelOtps(deps, [{ otpId, apiClient: null }]);
  const { kind } = outcome!;
  const data = { outcome: kind, otp_id: otpId };
  return { isDone: kind === 'canceled', lines: [CANCEL_LINES[kind]], data };
}

/** @throws Unavailable when the database cannot answer */
export async function unlock(
  deps: Readonly<{ pool: ConnectionPool; secrets: Secrets }>,
  pair: PairName,
): Promise<Report> {
  const isDone = await unlockPair(deps, pair);
  const line = isDone ? 'unlocked; the user can request a new code'
    : 'no record of this user and purpose';
  const outcome = isDone ? 'unlocked' : 'unknown';
  const data = { outcome, user_id: pair.userId, purpose: pair.purpose };
  return { isDone, lines: [line], data };
}
