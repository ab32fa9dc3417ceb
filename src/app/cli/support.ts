/** `otpd show`, `unlock`, `revoke` and `cancel`: the support commands. None prints a code. */
import type { ConnectionPool } from '../../db/pool.ts';
import { addSeconds } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import { cancelOtps } from '../../otp/cancel.ts';
import { choosePseudonyms } from '../../otp/crypto/secrets.ts';
import type { Secrets } from '../../otp/crypto/secrets.ts';
import { isOtpId, toRfc3339 } from '../../otp/outcomes.ts';
import type { CancelOutcome, RequestOutcome } from '../../otp/outcomes.ts';
import type { Policies } from '../../otp/policy/policy.ts';
import { previewRequests } from '../../otp/request/screen.ts';
import { revokeDevices, unlockUser } from '../../otp/support.ts';
import { readUserReport } from '../../otp/user-report.ts';
import type { CodeReport, DeviceReport, PairReport, UserReport } from '../../otp/user-report.ts';
import {
  LOGGED_PURPOSE_MAX_CHARACTERS, LOGGED_USER_MAX_CHARACTERS, member, toJsonLine, toTextLine,
  WORD_MAX_CHARACTERS,
} from '../log/line.ts';
import { isOutputTerminal, UsageError } from '../output.ts';
import type { Report } from '../output.ts';

type SupportDeps = Readonly<{
  pool: ConnectionPool;
  policies: Policies;
  secrets: Secrets;
  /** Whether the log names users as the caller does; else, and by default, by pseudonyms. */
  isRaw?: boolean;
}>;

function logUserOf({ secrets, isRaw = false }: SupportDeps, userId: string): string {
  return choosePseudonyms(secrets.current, isRaw).user(userId);
}

/** Names a user as the caller does and as the log does. */
type UserNames = Readonly<{ userId: string; logUser: string }>;

/** @throws Unavailable when the database cannot answer */
export async function show(deps: SupportDeps, userId: string): Promise<Report> {
  const names = { userId, logUser: logUserOf(deps, userId) };
  const report = await readUserReport(deps, userId);
  if (report === null) {
    const data = { outcome: 'unknown', user_id: userId, log_user: names.logUser };
    const lines = [`no record of this user; in the log: ${names.logUser}`];
    return { isDone: false, lines, data };
  }
  return { isDone: true, lines: toLines(names, report), data: toData(names, report) };
}

function toData({ userId, logUser }: UserNames, report: UserReport): Report['data'] {
  const { now, account, pairs, keptWrong, devices } = report;
  return {
    outcome: 'known',
    user_id: userId,
    log_user: logUser,
    now: toRfc3339(now),
    account: {
      locked: account.isLocked,
      wrong_in_a_row: account.wrong,
      wrong_in_a_row_max: account.wrongMax,
      untrusted_locked: account.isUntrustedLocked,
      untrusted_wrong_in_a_row_max: account.untrustedMax,
    },
    purposes: pairs.map((pair) => ({
      purpose: pair.purpose,
      device: pair.device === '' ? null : pair.device,
      limit: {
        quota: pair.quota,
        remaining: pair.remaining,
        free_at: pair.freeAt.map(toRfc3339),
      },
      ...(pair.daily === null ? {} : { daily_limit: {
        quota: pair.daily.quota,
        remaining: pair.daily.remaining,
        free_at: pair.daily.freeAt === null ? null : toRfc3339(pair.daily.freeAt),
      } }),
      locked: pair.lockedUntil !== null,
      locked_until: pair.lockedUntil === null ? null : toRfc3339(pair.lockedUntil),
      wrong_attempts: pair.wrongAttempts,
      wrong_attempts_max: pair.wrongAttemptsMax,
      wrong_in_a_row: pair.consecutiveWrong,
      last_code: pair.lastCode === null ? null : toCodeData(pair.lastCode),
    })),
    ...(keptWrong.length === 0 ? {} : { kept_wrong_in_a_row: keptWrong }),
    devices: devices.map(({ device, lastSuccessAt, revokedAt }) => ({
      device: device === '' ? null : device,
      last_success_at: lastSuccessAt === null ? null : toRfc3339(lastSuccessAt),
      revoked_at: revokedAt === null ? null : toRfc3339(revokedAt),
    })),
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
  const { now, account, pairs, keptWrong, devices } = report;
  const head = `user ${userId} at ${toRfc3339(now)}; in the log: ${logUser}`;
  return [head, `account     ${formatAccount(account)}`, ...pairs.flatMap((pair) => [
    `purpose ${pair.purpose}${pair.device === '' ? '' : ` on device ${pair.device}`}`,
    `  limit     ${formatLimit(pair, pair.freeAt.map(toRfc3339))}`,
    ...formatDailyLimit(pair),
    `  lock      ${formatLock(pair)}`,
    `  attempts  ${pair.wrongAttempts} of ${pair.wrongAttemptsMax} wrong until a lock, `
      + `${pair.consecutiveWrong} wrong in a row`,
    ...formatCode(pair.lastCode),
  ]), ...keptWrong.map((count) =>
    `${count} wrong in a row for a purpose whose OTPs are no longer stored`),
  ...devices.map(formatDevice)];
}

function formatDevice({ device, lastSuccessAt, revokedAt }: DeviceReport): string {
  const success = lastSuccessAt === null ? [] : [`last success ${toRfc3339(lastSuccessAt)}`];
  const end = revokedAt === null ? [] : [`revoked ${toRfc3339(revokedAt)}`];
  return [device === '' ? 'all devices' : `device ${device}`, ...success, ...end].join(', ');
}

function formatAccount(
  { wrong, wrongMax, isLocked, untrustedMax, isUntrustedLocked }: UserReport['account'],
): string {
  if (isLocked) return `locked until an operator runs otpd unlock, ${wrong} wrong in a row`;
  const rest = `${wrong} of ${wrongMax} wrong in a row until an operator must unlock`;
  if (isUntrustedLocked) return `locked except for trusted devices, ${rest}`;
  return untrustedMax === wrongMax ? rest
    : `${rest}, ${untrustedMax} for untrusted clients`;
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

function formatLock({ lockedUntil }: PairReport): string {
  return lockedUntil === null ? 'none' : `until ${toRfc3339(lockedUntil)}`;
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
  if (!isOtpId(text)) throw new UsageError('OTP_ID must be 32 hexadecimal digits');
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

const UNLOCK_LINES = { unlocked: 'unlocked', not_locked: 'was not locked' } as const;

/**
 * Unlocks a purpose of a user, or all of them, and says what still refuses the user, by the rules
 * that decide the next request. The limits of client IPs are unknown here.
 *
 * @param purpose null for all purposes
 * @throws Unavailable when the database cannot answer
 */
export async function unlock(
  deps: SupportDeps,
  userId: string,
  purpose: string | null,
): Promise<Report> {
  const { outcome, now, purposes } = await unlockUser(deps, userId, purpose);
  const data = { outcome, user_id: userId, ...(purpose === null ? {} : { purpose }) };
  if (outcome === 'unknown') {
    const line = `no record of this user${purpose === null ? '' : ' and purpose'}`;
    return { isDone: false, lines: [line], data };
  }
  const names = purpose === null ? purposes : [purpose];
  const refusals = names.length === 0 ? []
    : await previewRequests(deps, names.map((name) => ({ userId, purpose: name })));
  const next = names.map((name, index) => describeNext(name, refusals[index] ?? null, now));
  return {
    isDone: !refusals.some((refusal) => refusal?.kind === 'account_locked'),
    lines: formatNext(UNLOCK_LINES[outcome], next),
    data: { ...data, ...(purpose === null ? { purposes: next.map(({ json }) => json) }
      : next[0]!.json) },
    note: toAuditLine(deps, 'unlock', { outcome, now, userId, purpose }),
  };
}

/** When the next code of a purpose can be requested, as text and as data. */
type NextCode = Readonly<{ purpose: string; text: string; json: object }>;

function describeNext(purpose: string, refusal: RequestOutcome | null, now: Instant): NextCode {
  const of = (text: string, nextAt: string | null, limitedBy: readonly string[]): NextCode =>
    ({ purpose, text, json: { purpose, next_code_at: nextAt, limited_by: limitedBy } });
  if (refusal?.kind === 'account_locked') {
    return of('the account is still locked; run otpd unlock USER without a purpose', null,
      ['account']);
  }
  if (refusal?.kind !== 'limited') return of('the user can request a code now', null, []);
  const nextAt = toRfc3339(addSeconds(now, refusal.retryAfterSeconds));
  const { limitedBy } = refusal;
  return of(`next code at ${nextAt}, by the limits: ${limitedBy.join(', ')}`, nextAt, limitedBy);
}

function formatNext(line: string, next: readonly NextCode[]): string[] {
  const texts = new Set(next.map(({ text }) => text));
  return texts.size > 1 ? [line, ...next.map(({ purpose, text }) => `  ${purpose}: ${text}`)]
    : [[line, ...texts].join('; ')];
}

const DEVICE = /^[0-9a-f]{16}$/;

/** @throws UsageError unless the text is a device, as `show` and the log name it */
export function checkDevice(text: string): void {
  if (DEVICE.test(text)) return;
  throw new UsageError('DEVICE must be 16 hexadecimal digits, as show lists it');
}

/**
 * Revokes a trusted device of a user, or all of them.
 *
 * @param device null for all devices
 * @throws Unavailable when the database cannot answer
 */
export async function revoke(
  deps: SupportDeps,
  userId: string,
  device: string | null,
): Promise<Report> {
  const now = await revokeDevices(deps, userId, device);
  const what = device === null ? 'all devices' : `device ${device}`;
  return {
    isDone: true,
    lines: [`user ${userId}: ${what} revoked; a client that verifies a code is trusted again, as a`
      + ' new device'],
    data: { outcome: 'revoked', user_id: userId, device, revoked_at: toRfc3339(now) },
    note: toAuditLine(deps, 'revoke', { outcome: 'revoked', now, userId, device }),
  };
}

/** A line for the log, because no process that writes one sees the command. */
function toAuditLine(
  deps: SupportDeps,
  command: 'unlock' | 'revoke',
  { outcome, now, userId, purpose = null, device = null }: Readonly<{
    outcome: string; now: Instant; userId: string; purpose?: string | null; device?: string | null;
  }>,
): string {
  const line = toJsonLine(toRfc3339(now), 'warn', 'authz_admin',
    member('outcome', outcome, WORD_MAX_CHARACTERS)
    + member('user', logUserOf(deps, userId), LOGGED_USER_MAX_CHARACTERS)
    + member('purpose', purpose, LOGGED_PURPOSE_MAX_CHARACTERS)
    + member('device', device, WORD_MAX_CHARACTERS)
    + member('command', command, WORD_MAX_CHARACTERS));
  return (isOutputTerminal() ? toTextLine(line, false) : line).trimEnd();
}
