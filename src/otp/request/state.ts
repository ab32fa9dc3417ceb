/** Requests as rules and statements know them, and the rows on which their decisions rest. */
import { ExtraLimitRows } from '../batch/extra-limits.ts';
import { IpLimitRows } from '../batch/ip-limits.ts';
import { StoredResponses } from '../batch/stored-responses.ts';
import { digestKey } from '../crypto/secrets.ts';
import { monotonicMs, READ_CLOCK } from '../../db/clock.ts';
import type { Instant } from '../../db/instant.ts';
import { mapResult } from '../../db/query.ts';
import type { Query } from '../../db/query.ts';
import { loadStoredRequests } from '../../db/tables/idempotency-keys.ts';
import type { StoredRequest } from '../../db/tables/idempotency-keys.ts';
import { lockSlots, readSlots } from '../../db/tables/ip-limits.ts';
import type { IpLimitSlot } from '../../db/tables/ip-limits.ts';
import { lockOtps, readOtpSummaries } from '../../db/tables/otps.ts';
import type { Otp, OtpSummary } from '../../db/tables/otps.ts';
import type { Transaction } from '../../db/transaction.ts';
import type { PreparedRequest } from './decide.ts';
import type { OtpRequest } from '../outcomes.ts';
import { limitsForRequest } from '../policy/policy.ts';
import type { Policies } from '../policy/policy.ts';

export function prepareRequest(policies: Policies, request: OtpRequest): PreparedRequest {
  // Member by member, because spreading an object into a larger one costs more than a digest.
  const { userId, purpose, clientIp, key, apiClient, acceptLanguage } = request;
  const policy = policies.for(purpose);
  return {
    userId,
    purpose,
    clientIp,
    acceptLanguage,
    policy,
    keyDigest: digestKey('request', key, apiClient),
    appliedLimits: limitsForRequest(policy, userId),
  };
}

/** The rows of one batch of requests, all as of `now`. */
export type LoadedState<T extends OtpSummary> = Readonly<{
  now: Instant;
  /** The monotonic clock just before the database was asked for `now`. */
  askedAtMs: number;
  otps: readonly T[];
  ipLimits: IpLimitRows;
  extraLimits: ExtraLimitRows;
  stored: StoredResponses<StoredRequest>;
}>;

type LoadOptions<L extends boolean> = Readonly<{
  lock: L;
  /** Whether to look up what is stored under the idempotency keys; always without a lock. */
  readsKeys?: boolean;
  /** Queries that use the round trip of the locks. */
  riding?: readonly Query<void>[];
}>;

/**
 * Loads state in one round trip, and in more only for client IPs with an overflow. An empty list
 * yields no statement.
 *
 * With `lock`, the state is enough to grant. The lock order is OTPs of users, slots of client IPs,
 * hit counters, each in the order of its index; the clock is read when the locks are held.
 *
 * Without `lock`, the state is enough to refuse, and the transaction has ended. The clock is read
 * first and younger rows are left out, so that only what counts at that time refuses. The keys are
 * read last, so that an OTP that refuses a repeat of its own request is also found by its key.
 */
export async function loadState<L extends boolean>(
  tx: Transaction,
  requests: readonly PreparedRequest[],
  { lock, readsKeys = true, riding = [] }: LoadOptions<L>,
): Promise<LoadedState<L extends true ? Otp : OtpSummary>> {
  const { users, clientIps, keys } = collectNames(requests);
  const limits = requests.flatMap(({ appliedLimits }) => appliedLimits);
  const extraLimits = limits.length === 0 ? ExtraLimitRows.none : new ExtraLimitRows(limits);
  let now: Instant = 0;
  let otps: readonly OtpSummary[] = [];
  let slots: readonly IpLimitSlot[] = [];
  let stored: readonly StoredRequest[] = [];
  const clock = mapResult(READ_CLOCK, (time) => { now = time; });
  const readKeys = () => mapResult(loadStoredRequests(keys), (found) => { stored = found; });
  const rows: readonly Query<void>[] = [
    mapResult<readonly OtpSummary[], void>(lock ? lockOtps(users) : readOtpSummaries(users),
      (found) => { otps = found; }),
    mapResult(lock ? lockSlots(clientIps) : readSlots(clientIps), (found) => { slots = found; }),
    ...(limits.length === 0 ? [] : extraLimits.queries(lock)),
  ];
  const askedAtMs = monotonicMs();
  if (lock) await tx.read(...rows, clock, ...(readsKeys ? [readKeys()] : []), ...riding);
  else {
    await tx.readAndEnd(clock, ...rows, readKeys());
    otps = otps.filter(({ createdAt }) => createdAt <= now);
    slots = slots.filter(({ usedAt }) => usedAt <= now);
  }
  const ipLimits = new IpLimitRows(slots);
  const hasOverflow = await ipLimits.loadOverflow(lock ? tx.read : tx.readAndEnd, now,
    lock ? null : now, (clientIp, live) => countNamedPoints(requests, clientIp, live));
  if (hasOverflow && !lock) await tx.readAndEnd(readKeys());
  const responses = new StoredResponses(stored);
  return {
    now,
    askedAtMs,
    otps: otps as readonly (L extends true ? Otp : OtpSummary)[],
    ipLimits,
    extraLimits,
    stored: responses,
  };
}

/** Users, client IPs and keys of a batch, each once. */
function collectNames(requests: readonly PreparedRequest[]) {
  const clientIps = new Set<string>();
  for (const { clientIp } of requests) if (clientIp !== null) clientIps.add(clientIp);
  return {
    users: [...new Set(requests.map(({ userId }) => userId))],
    clientIps: [...clientIps],
    keys: [...new Set(requests.map(({ keyDigest }) => keyDigest))],
  };
}

/**
 * How many of the oldest points of a client IP the responses of a batch may name. One suffices
 * unless the client IP has more points than a purpose with a smaller limit allows; each request may
 * take one more point. A limit in shadow names no time but that of the oldest point.
 */
function countNamedPoints(
  requests: readonly PreparedRequest[],
  clientIp: string,
  livePoints: number,
): number {
  const ofClientIp = requests.filter((request) => request.clientIp === clientIp);
  const quotas = ofClientIp.filter(({ policy }) => !policy.shadow.has('address'))
    .map(({ policy }) => policy.addressLimit);
  return Math.max(1, livePoints + ofClientIp.length - Math.min(...quotas) + 1);
}
