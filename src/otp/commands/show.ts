/** `otpd show USER`: limits, locks, wrong attempts and open codes of a user, and no digits. */
import type { SessionPool } from '../../db/pool.ts';
import type { CodeView, PairView, UserView } from '../describe-user.ts';
import type { Policies } from '../policy.ts';
import { showUser } from '../show-user.ts';
import { timestampOf } from '../timestamp.ts';
import type { Report } from './report.ts';

/**
 * Shows a user.
 *
 * @throws Unavailable when the database cannot answer
 */
export async function show(
  parts: Readonly<{ pool: SessionPool; policies: Policies }>,
  userId: string,
): Promise<Report> {
  const view = await showUser(parts, userId);
  if (view === null) {
    const data = { outcome: 'unknown', user_id: userId };
    return { isDone: false, lines: ['nothing is known of this user'], data };
  }
  return { isDone: true, lines: linesOf(userId, view), data: dataOf(userId, view) };
}

function dataOf(userId: string, { now, freeAt, pairs, openCodes }: UserView): Report['data'] {
  return {
    outcome: 'known',
    user_id: userId,
    now: timestampOf(now),
    purposes: pairs.map((pair) => ({
      purpose: pair.purpose,
      limit: {
        quota: pair.quota,
        remaining: pair.remaining,
        free_at: freeAt.map(timestampOf),
      },
      ...(pair.daily === null ? {} : { daily_limit: {
        quota: pair.daily.quota,
        remaining: pair.daily.remaining,
        free_at: pair.daily.freeAt === null ? null : timestampOf(pair.daily.freeAt),
      } }),
      locked: pair.isLocked,
      locked_until: pair.lockedUntil === null ? null : timestampOf(pair.lockedUntil),
      must_be_unlocked: pair.mustBeUnlocked,
      wrong_attempts: pair.wrongAttempts,
      wrong_attempts_max: pair.wrongAttemptsMax,
      wrong_in_a_row: pair.consecutiveWrong,
      wrong_in_a_row_max: pair.consecutiveWrongMax,
    })),
    open_codes: openCodes.map(codeOf),
  };
}

/** As GET /otp/{otp_id} tells it. */
function codeOf({ otpId, purpose, status, channel, createdAt, expiresAt }: CodeView): object {
  return {
    otp_id: otpId,
    purpose,
    status,
    channel,
    created_at: timestampOf(createdAt),
    expires_at: timestampOf(expiresAt),
  };
}

function linesOf(userId: string, view: UserView): string[] {
  const { now, freeAt, pairs, openCodes } = view;
  return [`user ${userId} at ${timestampOf(now)}`, ...pairs.flatMap((pair) => [
    `purpose ${pair.purpose}`,
    `  limit     ${limitOf(pair, freeAt.map(timestampOf))}`,
    ...dailyOf(pair),
    `  lock      ${lockOf(pair)}`,
    `  attempts  ${pair.wrongAttempts} of ${pair.wrongAttemptsMax} wrong ones until a lock, `
      + `${pair.consecutiveWrong} of ${pair.consecutiveWrongMax} until an operator must unlock`,
    ...openCodes.filter(({ purpose }) => purpose === pair.purpose).map((code) =>
      `  code      ${code.otpId} ${code.status} by ${code.channel}, `
        + `created ${timestampOf(code.createdAt)}, expires ${timestampOf(code.expiresAt)}`),
  ])];
}

type Left = Pick<PairView, 'quota' | 'remaining'>;

function limitOf({ quota, remaining }: Left, freeAt: readonly string[]): string {
  const left = `${remaining} of ${quota} codes left`;
  return freeAt.length === 0 ? left : `${left}; one is free again at ${freeAt.join(', ')}`;
}

function dailyOf({ daily }: PairView): string[] {
  if (daily === null) return [];
  const freeAt = daily.freeAt === null ? [] : [timestampOf(daily.freeAt)];
  return [`  daily     ${limitOf(daily, freeAt)}`];
}

function lockOf({ isLocked, lockedUntil, mustBeUnlocked }: PairView): string {
  if (mustBeUnlocked) return 'until an operator ends it (otpd unlock)';
  return isLocked && lockedUntil !== null ? `until ${timestampOf(lockedUntil)}` : 'none';
}
