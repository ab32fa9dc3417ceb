/** The state of a user for an operator. It contains no code and no digest of a code. */
import { RevocationRows, WrongCountRows } from './batch/otps.ts';
import { deviceOf } from './crypto/devices.ts';
import type { Secrets } from './crypto/secrets.ts';
import { READ_CLOCK } from '../db/clock.ts';
import { addSeconds } from '../db/instant.ts';
import type { Instant } from '../db/instant.ts';
import type { Hex, Query } from '../db/query.ts';
import type { DeviceRevocation } from '../db/tables/device-revocations.ts';
import { readHits, HIT_KINDS } from '../db/tables/limit-hits.ts';
import type { Hit, SubjectHit } from '../db/tables/limit-hits.ts';
import { readFailures, readOtps } from '../db/tables/otps.ts';
import type { DeliveryFailure, Otp } from '../db/tables/otps.ts';
import { findUnsent, resendId } from '../db/tables/outbox.ts';
import { transaction } from '../db/transaction.ts';
import type { Deps } from './deps.ts';
import type { StatusOutcome } from './outcomes.ts';
import { LIMIT_WINDOW_SECONDS, WINDOW_SECONDS } from './policy/policy.ts';
import type { LimitName, Policies } from './policy/policy.ts';
import { countAccountWrong, findNewestOtp, isExpired } from './rules/lifecycle.ts';
import { countedAttempts, isAccountLocked, lockSecondsLeft } from './rules/lockout.ts';
import { sortHits } from './rules/numbered-hits.ts';
import { isPointLive, measureLimit, toTimedPoints } from './rules/rolling-window.ts';
import type { LimitState } from './rules/rolling-window.ts';
import { statusOf } from './status.ts';

export type CodeReport = Extract<StatusOutcome, { kind: 'known' }>
  & Readonly<{
    redeemedAt: Instant | null;
    /** The last failed attempt to deliver the message, even if a later one was accepted. */
    failure: DeliveryFailure | null;
  }>;

/** The consecutive wrong attempts of a user, of all pairs. */
type AccountReport = Readonly<{
  wrong: number;
  wrongMax: number;
  /** For everybody, until an operator unlocks the account. */
  isLocked: boolean;
  /** The same for untrusted clients, which get fewer attempts. */
  untrustedMax: number;
  isUntrustedLocked: boolean;
}>;

/** A device that was trusted within the time for which OTPs are stored, or is revoked. */
export type DeviceReport = Readonly<{
  /** '' for all devices of the user. */
  device: Hex;
  lastSuccessAt: Instant | null;
  revokedAt: Instant | null;
}>;

/** The limits, locks and wrong attempts of a pair. */
export type PairReport = Readonly<{
  purpose: string;
  /** '' for the untrusted clients. */
  device: Hex;
  /** When each live point of this device or of the untrusted clients is free. */
  freeAt: readonly Instant[];
  /** How many codes can be requested in 15 minutes, and how many more now. */
  quota: number;
  remaining: number;
  daily: DailyReport | null;
  /** When the lock of the pair ends; null without one. */
  lockedUntil: Instant | null;
  /** Wrong attempts that count towards the next lock, and how many begin a lock. */
  wrongAttempts: number;
  wrongAttemptsMax: number;
  /** Wrong attempts since the last success. */
  consecutiveWrong: number;
  /** The newest OTP; null when only its wrong attempts are still known. */
  lastCode: CodeReport | null;
}>;

type DailyReport = Readonly<{
  quota: number;
  remaining: number;
  /** When the oldest live point is free; null when no point is live. */
  freeAt: Instant | null;
}>;

export type UserReport = Readonly<{
  now: Instant;
  account: AccountReport;
  /** The known pairs, in the order in which their newest OTPs were issued. */
  pairs: readonly PairReport[];
  /** Consecutive wrong attempts of pairs whose OTPs were swept, which are not known by name. */
  keptWrong: readonly number[];
  devices: readonly DeviceReport[];
}>;

type Details = Readonly<{
  daily?: readonly Hit[];
  kept?: Readonly<{ wrong: readonly number[]; ofAccount: number; ofDevices: number }>;
  devices?: readonly DeviceReport[];
  failures?: ReadonlyMap<Hex, DeliveryFailure>;
}>;

const NOTHING_KEPT = Object.freeze({ wrong: [], ofAccount: 0, ofDevices: 0 });

/**
 * @param otps all OTPs of the user
 * @param unsent the ids of OTPs whose messages are in the outbox
 * @param details `daily`: the hits of the daily limit, in the order of their numbers; `kept`: the
 *   counts of pairs whose OTPs were swept, and their sums for untrusted clients and for devices,
 *   which are more than any limit when the account is locked for them; `failures`: by otpId
 * @returns null when the user is unknown
 */
export function describeUser(
  otps: readonly Otp[],
  unsent: ReadonlySet<string>,
  now: Instant,
  policies: Policies,
  { daily = [], kept = NOTHING_KEPT, failures, devices = [] }: Details = {},
): UserReport | null {
  const newest = otps.filter((otp) => findNewestOtp(otps, otp) === otp
    && (otp.consecutiveWrong > 0 || !isExpired(otp, now))).sort((a, b) => a.number - b.number);
  if (newest.length === 0 && kept.ofAccount === 0 && devices.length === 0) return null;
  const pairs = newest.map((otp) => {
    const code = statusOf(otp, otps, unsent.has(otp.otpId), now);
    const failure = failures?.get(otp.otpId) ?? null;
    const lastCode = code.kind === 'unknown' ? null
      : { ...code, redeemedAt: otp.redeemedAt, failure };
    return { ...describePair(otp, { otps, daily }, now, policies), lastCode };
  });
  const { wrongAttemptsUntilUnlock: wrongMax, deviceReserve } = policies.default;
  const counted = countAccountWrong(otps, kept.wrong.reduce((sum, count) => sum + count, 0));
  const account = {
    wrong: Math.min(counted, wrongMax),
    wrongMax,
    isLocked: countAccountWrong(otps, kept.ofDevices) >= wrongMax,
    untrustedMax: wrongMax - deviceReserve,
    isUntrustedLocked:
      isAccountLocked(countAccountWrong(otps, kept.ofAccount), policies.default, ''),
  };
  return { now, account, pairs, keptWrong: kept.wrong, devices };
}

function listFreeTimes(otps: readonly Otp[], now: Instant): Instant[] {
  return toTimedPoints(otps)
    .filter(({ usedAt, points }) => points > 0 && isPointLive(usedAt, now))
    .map(({ usedAt }) => addSeconds(Math.min(usedAt, now), WINDOW_SECONDS))
    .sort((a, b) => a - b);
}

function describePair(
  pair: Otp,
  { otps, daily }: Readonly<{ otps: readonly Otp[]; daily: readonly Hit[] }>,
  now: Instant,
  policies: Policies,
): Omit<PairReport, 'lastCode'> {
  const policy = policies.for(pair.purpose);
  const { purpose, device } = pair;
  const own = otps.filter((otp) => otp.device === device);
  const measure = (limit: LimitName, quota: number, counted: readonly Otp[]): LimitState =>
    measureLimit({ limit, quota }, toTimedPoints(counted), now);
  const { quota, remaining } = measure(device === '' ? 'user' : 'device', policy.userLimit, own);
  const ofDevices = device === '' ? Infinity : measure('devices', policy.devicesLimit,
    otps.filter((otp) => otp.device !== '')).remaining;
  const isLocked = lockSecondsLeft(pair, now) !== null;
  return {
    purpose,
    device,
    freeAt: listFreeTimes(own, now),
    quota,
    remaining: Math.min(remaining, ofDevices),
    daily: describeDaily(daily, policy.userDailyLimit, now),
    // A later end was stored before the clock was set back, and the next request corrects it.
    lockedUntil: isLocked && pair.lockedUntil !== null
      ? Math.min(pair.lockedUntil, addSeconds(now, pair.lockSeconds)) : null,
    wrongAttempts: (isLocked ? pair : countedAttempts(pair, now)).wrongAttempts,
    wrongAttemptsMax: pair.attemptsMax,
    consecutiveWrong: pair.consecutiveWrong,
  };
}

function describeDaily(
  hits: readonly Hit[],
  quota: number | null,
  now: Instant,
): DailyReport | null {
  if (quota === null || quota === Infinity) return null;
  const windowSeconds = LIMIT_WINDOW_SECONDS.user_daily;
  const live = hits.filter(({ usedAt }) => addSeconds(usedAt, windowSeconds) > now);
  const used = live.reduce((sum, { points }) => sum + points, 0);
  const [oldest] = live;
  const freeAt = oldest === undefined ? null
    : addSeconds(Math.min(oldest.usedAt, now), windowSeconds);
  return { quota, remaining: Math.max(0, quota - used), freeAt };
}

/** Stands for every trusted device, because the lock of an account is the same for all. */
const ANY_DEVICE = 'any';

/** The devices on which stored OTPs were redeemed, and the revoked ones. */
export function listDevices(
  { byId }: Secrets,
  otps: readonly Otp[],
  revocations: readonly DeviceRevocation[],
): readonly DeviceReport[] {
  const devices = new Map<Hex, DeviceReport>();
  for (const otp of otps) {
    const secret = byId.get(otp.keyId);
    if (otp.redeemedAt === null || secret === undefined) continue;
    const device = deviceOf(secret, otp);
    const lastSuccessAt = Math.max(otp.redeemedAt, devices.get(device)?.lastSuccessAt ?? 0);
    devices.set(device, { device, lastSuccessAt, revokedAt: null });
  }
  for (const { device, revokedAt } of revocations) {
    const lastSuccessAt = devices.get(device)?.lastSuccessAt ?? null;
    devices.set(device, { device, lastSuccessAt, revokedAt });
  }
  const all = devices.get('')?.revokedAt ?? null;
  const isEnded = ({ lastSuccessAt }: DeviceReport): boolean =>
    lastSuccessAt !== null && all !== null && lastSuccessAt <= all;
  return [...devices.values()].map((one) =>
    (one.revokedAt === null && isEnded(one) ? { ...one, revokedAt: all } : one));
}

/**
 * Reads the report of a user without a lock.
 *
 * @returns null when the user is unknown
 * @throws Unavailable when the database does not answer
 */
export function readUserReport(
  { pool, policies, secrets }: Pick<Deps, 'pool' | 'policies' | 'secrets'>,
  userId: string,
): Promise<UserReport | null> {
  const readAll = readOtps([userId]);
  return transaction(pool, async (tx) => {
    const [earlier] = await tx.read(readAll);
    const batchIds = earlier.flatMap(({ batchId, otpId }) => [batchId, resendId(otpId)]);
    if (batchIds.length === 0) batchIds.push('');
    const counts = new WrongCountRows(secrets);
    // The outbox is read before the OTPs for the same reason as in status.ts, and the counts are as
    // in loadState.
    const revocations = new RevocationRows();
    const [unsent, , otps, failures, now, , daily] = await tx.readAndEnd(
      findUnsent(batchIds), counts.query([userId], false), readAll, readFailures(userId),
      READ_CLOCK, revocations.query([userId]), ...queryDaily(userId, policies, earlier));
    const kept = {
      wrong: counts.ofUser(userId),
      ofAccount: counts.ofAccount({ userId, device: '' }),
      ofDevices: counts.ofAccount({ userId, device: ANY_DEVICE }),
    };
    const trusting = otps.filter(({ purpose }) => policies.for(purpose).deviceDays !== null);
    const devices = listDevices(secrets, trusting, revocations.of(userId));
    const details = { daily: sortHits(daily ?? []), kept, failures, devices };
    return describeUser(otps, unsent, now, policies, details);
  });
}

/** The hits of a day, up to the highest daily limit of the user's purposes; none without one. */
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
  const windowSeconds = LIMIT_WINDOW_SECONDS.user_daily;
  return [readHits([subject], [{ ...subject, quota, windowSeconds }], quota)];
}
