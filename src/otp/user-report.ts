/** What an operator is told of a user, as a pure function: never a code, nor its digest. */
import { READ_CLOCK } from '../db/clock.ts';
import { addSeconds } from '../db/instant.ts';
import type { Instant } from '../db/instant.ts';
import type { Query } from '../db/query.ts';
import { readHits, HIT_KINDS } from '../db/tables/limit-hits.ts';
import type { Hit, SubjectHit } from '../db/tables/limit-hits.ts';
import { readOtps } from '../db/tables/otps.ts';
import type { Otp } from '../db/tables/otps.ts';
import { findUnsent } from '../db/tables/outbox.ts';
import { transaction } from '../db/transaction.ts';
import type { Deps } from './deps.ts';
import type { StatusOutcome } from './outcomes.ts';
import { EXTRA_WINDOW_SECONDS, WINDOW_SECONDS } from './policy/policy.ts';
import type { Policies } from './policy/policy.ts';
import { toTimedPoints } from './request/decide.ts';
import { isOpen, findKnownPair } from './rules/lifecycle.ts';
import { countedAttempts, lockSecondsLeft } from './rules/lockout.ts';
import { sortHits } from './rules/numbered-hits.ts';
import { isPointLive, measureLimit } from './rules/rolling-window.ts';
import { statusOf } from './status.ts';

/** A code that is known, without its digits. */
export type CodeReport = Extract<StatusOutcome, { kind: 'known' }>;

/** What is in force for a pair (user_id, purpose). */
export type PairReport = Readonly<{
  purpose: string;
  /** How many codes may be issued in 15 minutes, and how many more now. */
  quota: number;
  remaining: number;
  daily: DailyReport | null;
  isLocked: boolean;
  /** When the lock ends by itself; null: there is none, or it never does. */
  lockedUntil: Instant | null;
  /** The lock does not end until an operator ends it. */
  mustBeUnlocked: boolean;
  /** Wrong attempts that count towards the next lock, and how many begin it. */
  wrongAttempts: number;
  wrongAttemptsMax: number;
  /** Wrong attempts since the last success, and how many lock the pair for good. */
  consecutiveWrong: number;
  consecutiveWrongMax: number;
}>;

/** The limit of a day, where a policy has one. */
type DailyReport = Readonly<{
  quota: number;
  remaining: number;
  /** When the oldest that counts is free again; null when none counts. */
  freeAt: Instant | null;
}>;

/** What is known of a user. */
export type UserReport = Readonly<{
  now: Instant;
  /** When each point that is used now is free again; all purposes share them. */
  freeAt: readonly Instant[];
  /** The known pairs, in the order in which their newest codes were issued. */
  pairs: readonly PairReport[];
  /** The codes that can be redeemed. */
  openCodes: readonly CodeReport[];
}>;

/**
 * Describes a user.
 *
 * @param otps all codes of the user
 * @param unsent the codes whose messages are in the outbox
 * @param daily the codes of the last day, as far as a limit counts them, by their numbers
 * @returns null when nothing is known of the user
 */
export function describeUser(
  otps: readonly Otp[],
  unsent: ReadonlySet<string>,
  now: Instant,
  policies: Policies,
  daily: readonly Hit[] = [],
): UserReport | null {
  const newest = otps.filter((otp) => findKnownPair(otps, otp.purpose, now) === otp)
    .sort((a, b) => a.number - b.number);
  if (newest.length === 0) return null;
  const openCodes = newest.filter((otp) => isOpen(otp, otps) && now < otp.expiresAt)
    .map((otp) => statusOf(otp, otps, unsent.has(otp.otpId), now))
    .filter((outcome) => outcome.kind === 'known');
  const pairs = newest.map((otp) => describePair(otp, { otps, daily }, now, policies));
  return { now, freeAt: listFreeTimes(otps, now), pairs, openCodes };
}

function listFreeTimes(otps: readonly Otp[], now: Instant): Instant[] {
  return toTimedPoints(otps)
    .filter(({ usedAt, points }) => points > 0 && isPointLive(usedAt, now))
    .map(({ usedAt }) => addSeconds(usedAt, WINDOW_SECONDS))
    .sort((a, b) => a - b);
}

function describePair(
  pair: Otp,
  { otps, daily }: Readonly<{ otps: readonly Otp[]; daily: readonly Hit[] }>,
  now: Instant,
  policies: Policies,
): PairReport {
  const policy = policies.for(pair.purpose);
  const { quota, remaining } = measureLimit(toTimedPoints(otps), now, policy.userLimit).view;
  const isLocked = lockSecondsLeft(pair, now, policy) !== null;
  const mustBeUnlocked = pair.consecutiveWrong >= policy.wrongAttemptsUntilUnlock;
  return {
    purpose: pair.purpose,
    quota,
    remaining,
    daily: describeDaily(daily, policy.userDailyLimit, now),
    isLocked,
    lockedUntil: isLocked && !mustBeUnlocked ? pair.lockedUntil : null,
    mustBeUnlocked,
    wrongAttempts: (isLocked ? pair : countedAttempts(pair, now)).wrongAttempts,
    wrongAttemptsMax: pair.attemptsMax,
    consecutiveWrong: pair.consecutiveWrong,
    consecutiveWrongMax: policy.wrongAttemptsUntilUnlock,
  };
}

function describeDaily(
  hits: readonly Hit[],
  quota: number | null,
  now: Instant,
): DailyReport | null {
  if (quota === null || quota === Infinity) return null;
  const windowSeconds = EXTRA_WINDOW_SECONDS.user_daily;
  const live = hits.filter(({ usedAt }) => addSeconds(usedAt, windowSeconds) > now);
  const used = live.reduce((sum, { points }) => sum + points, 0);
  const [oldest] = live;
  const freeAt = oldest === undefined ? null : addSeconds(oldest.usedAt, windowSeconds);
  return { quota, remaining: Math.max(0, quota - used), freeAt };
}

/**
 * Tells what is known of a user.
 *
 * @returns null when nothing is known
 * @throws Unavailable when the database cannot answer
 */
export function readUserReport(
  { pool, policies }: Pick<Deps, 'pool' | 'policies'>,
  userId: string,
): Promise<UserReport | null> {
  const readAll = readOtps([userId]);
  return transaction(pool, async (tx) => {
    const [earlier] = await tx.read(readAll);
    const batchIds = earlier.map(({ batchId }) => batchId);
    if (batchIds.length === 0) batchIds.push('');
    // The outbox before the codes, as in tell-statuses.ts: never told as sent too soon.
    const [unsent, otps, now, daily] = await tx.readAndEnd(
      findUnsent(batchIds), readAll, READ_CLOCK, ...queryDaily(userId, policies, earlier));
    return describeUser(otps, unsent, now, policies, sortHits(daily ?? []));
  });
}

/** The codes of a day, as many as the highest limit of the user's purposes, if there is one. */
function queryDaily(
  userId: string,
  policies: Policies,
  otps: readonly Otp[],
): readonly [Query<SubjectHit[]>] | readonly [] {
  const limits = otps.map(({ purpose }) => policies.for(purpose).userDailyLimit ?? Infinity)
    .filter((limit) => limit !== Infinity);
  if (limits.length === 0) return [];
  const subject = { subject: userId, kind: HIT_KINDS.user_daily };
  const quota = Math.max(...limits);
  return [readHits([subject], [{ ...subject, quota }], quota)];
}
