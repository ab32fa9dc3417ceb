/** `otpd show`, `unlock` and `cancel`: the support commands. None of them prints a code. */
import type { ConnectionPool } from '../../db/pool.ts';
import { addSeconds } from '../../db/instant.ts';
import type { PairName } from '../../db/tables/otps.ts';
import { cancelOtps } from '../../otp/cancel.ts';
import { choosePseudonyms } from '../../otp/crypto/secrets.ts';
import type { Secrets } from '../../otp/crypto/secrets.ts';
import { toRfc3339 } from '../../otp/outcomes.ts';
import type { CancelOutcome } from '../../otp/outcomes.ts';
import type { Policies } from '../../otp/policy/policy.ts';
import { previewRequest } from '../../otp/request/screen.ts';
import { unlockPair } from '../../otp/unlock.ts';
import { readUserReport } from '../../otp/user-report.ts';
import type { CodeReport, PairReport, UserReport } from '../../otp/user-report.ts';
import { UsageError } from '../output.ts';
import type { Report } from '../output.ts';

type SupportDeps = Readonly<{ pool: ConnectionPool; policies: Policies; secrets: Secrets }>;

/** Names a user as the caller does and as the log does. */
type UserNames = Readonly<{ userId: string; logUser: string }>;

/**
 * @param isRaw whether the log names users as the caller does
 * @throws Unavailable when the database cannot answer
 */
export async function show(deps: SupportDeps, userId: string, isRaw = false): Promise<Report> {
  const names = { userId, logUser: choosePseudonyms(deps.secrets.current, isRaw).user(userId) };
  const report = await readUserReport(deps, userId);
  if (report === null) {
    const data = { outcome: 'unknown', user_id: userId, log_user: names.logUser };
    const lines = [`no record of this user; in the log: ${names.logUser}`];
    return { isDone: false, lines, data };
  }
  return { isDone: true, lines: toLines(names, report), data: toData(names, report) };
}

function toData({ userId, logUser }: UserNames, report: UserReport): Report['data'] {
  const { now, freeAt, pairs, keptWrong } = report;
  return {
    outcome: 'known',
    user_id: userId,
    log_user: logUser,
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
      last_code: pair.lastCode === null ? null : toCodeData(pair.lastCode),
    })),
    ...(keptWrong.length === 0 ? {} : { kept_wrong_in_a_row: keptWrong }),
  };
}

/**
 * The members of GET /otp/{otp_id} (docs/api.md, "GET /otp/{otp_id}"), the redemption, and the last
 * failure.
 */
function toCodeData(code: CodeReport): object {
  const { otpId, status, channel, createdAt, expiresAt, redeemedAt, failure } = code;
  return {
    otp_id: otpId,
    status,
    channel,
    created_at: toRfc3339(createdAt),
    expires_at: toRfc3339(expiresAt),
    redeemed_at: redeemedAt === null ? null : toRfc3339(redeemedAt),
    delivery_failure: failure,
  };
}

function toLines({ userId, logUser }: UserNames, report: UserReport): string[] {
  const { now, freeAt, pairs, keptWrong } = report;
  const head = `user ${userId} at ${toRfc3339(now)}; in the log: ${logUser}`;
  return [head, ...pairs.flatMap((pair) => [
    `purpose ${pair.purpose}`,
    `  limit     ${formatLimit(pair, freeAt.map(toRfc3339))}`,
    ...formatDailyLimit(pair),
    `  lock      ${formatLock(pair)}`,
    `  attempts  ${pair.wrongAttempts} of ${pair.wrongAttemptsMax} wrong until a lock, `
      + `${pair.consecutiveWrong} of ${pair.consecutiveWrongMax} wrong in a row until an operator `
      + 'must unlock',
    ...formatCode(pair.lastCode),
  ]), ...keptWrong.map((count) =>
    `${count} wrong in a row for a purpose whose OTPs are no longer stored`)];
}

function formatCode(code: CodeReport | null): string[] {
  if (code === null) return [];
  const { otpId, status, channel, createdAt, expiresAt, redeemedAt, failure } = code;
  const end = redeemedAt === null ? `expires ${toRfc3339(expiresAt)}`
    : `redeemed ${toRfc3339(redeemedAt)}`;
  return [
    `  code      ${otpId} ${status} by ${channel}, created ${toRfc3339(createdAt)}, ${end}`,
    ...formatFailure(failure),
  ];
}

function formatFailure(failure: CodeReport['failure']): string[] {
  if (failure === null) return [];
  const { channel, reason } = failure;
  return [`  delivery  last failed${channel === null ? '' : ` by ${channel}`}: ${reason}`];
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

const UNLOCK_LINES = {
  unlocked: 'unlocked', not_locked: 'was not locked', unknown: 'no record of this user and purpose',
} as const;

/**
 * Says what still refuses the user, by the rules that decide the next request. The limits of client
 * IPs are unknown here.
 *
 * @throws Unavailable when the database cannot answer
 */
export async function unlock(deps: SupportDeps, pair: PairName): Promise<Report> {
  const { outcome, now } = await unlockPair(deps, pair);
  const { userId, purpose } = pair;
  const data = { outcome, user_id: userId, purpose };
  const line = UNLOCK_LINES[outcome];
  if (outcome === 'unknown') return { isDone: false, lines: [line], data };
  const next = await previewRequest(deps, pair);
  if (next?.kind !== 'limited') {
    const lines = [`${line}; the user can request a code now`];
    return { isDone: true, lines, data: { ...data, next_code_at: null, limited_by: [] } };
  }
  const nextAt = toRfc3339(addSeconds(now, next.retryAfterSeconds));
  const lines = [`${line}; next code at ${nextAt}, by the limits: ${next.limitedBy.join(', ')}`];
  const limits = { next_code_at: nextAt, limited_by: next.limitedBy };
  return { isDone: true, lines, data: { ...data, ...limits } };
}
