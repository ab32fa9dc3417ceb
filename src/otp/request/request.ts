/** POST /otp/request for a batch of requests: load, decide, write, commit, dispatch. */
import { RequestBatch } from './batch.ts';
import type { LoadedState } from './batch.ts';
import { groupBy, StoredResponses } from '../batch/changed-rows.ts';
import { ExtraLimitRows } from '../batch/extra-limits.ts';
import { WrongCountRows } from '../batch/otps.ts';
import { IpLimitRows } from '../batch/ip-limits.ts';
import { randomBatchId, randomCode } from '../crypto/random.ts';
import { createOtpIds, digestCode, digestKey } from '../crypto/secrets.ts';
import type { Secrets } from '../crypto/secrets.ts';
import { EstimatedClock, monotonicMs, READ_CLOCK } from '../../db/clock.ts';
import { addSeconds } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import { byKey, mapResult } from '../../db/query.ts';
import type { Query } from '../../db/query.ts';
import { loadStoredRequests } from '../../db/tables/idempotency-keys.ts';
import type { StoredRequest } from '../../db/tables/idempotency-keys.ts';
import { lockSlots, readSlots } from '../../db/tables/ip-limits.ts';
import type { IpLimitSlot } from '../../db/tables/ip-limits.ts';
import { lockOtps, readOtpSummaries } from '../../db/tables/otps.ts';
import type { Otp, OtpSummary } from '../../db/tables/otps.ts';
import { BATCH_MESSAGES_MAX, insertBatches } from '../../db/tables/outbox.ts';
import { transaction } from '../../db/transaction.ts';
import type { Transaction } from '../../db/transaction.ts';
import type { NewCode, PreparedRequest } from './decide.ts';
import type { Delivery } from '../delivery/delivery.ts';
import { LEASE_SECONDS, OutboxBatch } from '../delivery/outbox-batch.ts';
import type { OutboxMessage } from '../delivery/outbox-batch.ts';
import type { Deps } from '../deps.ts';
import type { OtpRequest, RequestOutcome } from '../outcomes.ts';
import { limitedDestination, limitsForRequest } from '../policy/policy.ts';
import type { Policies } from '../policy/policy.ts';

/** Clients that repeat requests repeat more of them: after one, this many batches look up keys. */
const BATCHES_WITH_LOOKUP = 64;

/**
 * Optimistic idempotency check. Nearly every key is new, and the unique index on keys rejects a
 * used one, so a batch skips the lookup of its keys until a key turns out to be used. A batch that
 * would refuse a request is decided again with the lookup: the request may be a repeat.
 */
export class OptimisticKeyCheck {
  #batchesWithLookup = 0;

  /** Makes the next batches look up their keys. */
  onUsedKey(): void {
    this.#batchesWithLookup = BATCHES_WITH_LOOKUP;
  }

  /** @param isFinal whether a result of `decide` without the lookup holds with the lookup too */
  async run<T>(
    decide: (readsKeys: boolean) => Promise<T>,
    isFinal: (decided: T) => boolean,
  ): Promise<T> {
    if (this.#batchesWithLookup === 0) {
      const decided = await decide(false);
      if (isFinal(decided)) return decided;
      this.onUsedKey();
    } else this.#batchesWithLookup -= 1;
    return decide(true);
  }
}

/** The optimistic check lasts as long as the process. */
type RequestDeps = Deps & Readonly<{ keyCheck: OptimisticKeyCheck }>;

/**
 * Decides a batch of requests in one transaction, in order of arrival, and dispatches the messages
 * once the transaction is committed.
 *
 * @returns one outcome for each request, in order
 * @throws Unavailable when the database does not answer; then either none took effect, or their
 *   outcome is unknown and each can be repeated with its key; a message that was stored is sent
 */
export async function requestOtps(
  deps: RequestDeps,
  inputs: readonly OtpRequest[],
  answerByMs?: number,
): Promise<RequestOutcome[]> {
  // Before the transaction, which may run several times.
  const requests = inputs.map((input) => prepareRequest(deps.policies, input));
  const codes = createCodes(deps, requests);
  let runs = 0;
  const { outcomes, batches } = await transaction(deps.pool, (tx) => {
    runs += 1;
    // The reason of the rerun may be a used key that the unique index has rejected.
    if (runs > 1) deps.keyCheck.onUsedKey();
    return decideAll(tx, requests, codes, deps);
  }, { answerByMs, onUnknown: (decided) => deps.delivery.dispatchIfStored(decided.batches) });
  deps.counts?.countRequests(outcomes);
  // Responses go first.
  if (batches.length > 0) setImmediate(() => deps.delivery.dispatch(batches));
  return outcomes;
}

/** In the order in which the rows are written, so that each otp_id comes after the one before. */
function createCodes(
  { secrets: { current }, delivery }: Pick<Deps, 'secrets' | 'delivery'>,
  requests: readonly PreparedRequest[],
): readonly NewCode[] {
  const codes = new Array<NewCode>(requests.length);
  const order = requests.map((_, index) => index).sort(byKey((index) => requests[index]!.userId));
  for (let start = 0; start < order.length; start += BATCH_MESSAGES_MAX) {
    const ofBatch = order.slice(start, start + BATCH_MESSAGES_MAX);
    const batchId = randomBatchId();
    const otpIds = createOtpIds(current, batchId, ofBatch.length);
    ofBatch.forEach((index, batchNumber) => {
      const { userId, purpose, policy } = requests[index]!;
      const otpId = otpIds[batchNumber]!;
      const code = randomCode(policy.codeDigits);
      const digest = digestCode(current, otpId, userId, purpose, code);
      const channel = delivery.channelFor(userId);
      codes[index] = { otpId, keyId: current.id, code, digest, batchId, batchNumber, channel };
    });
  }
  return codes;
}

type Decided = Readonly<{ outcomes: RequestOutcome[]; batches: readonly OutboxBatch[] }>;

async function decideAll(
  tx: Transaction,
  requests: readonly PreparedRequest[],
  codes: readonly NewCode[],
  deps: RequestDeps,
): Promise<Decided> {
  const { sweeper, secrets, delivery, keyCheck } = deps;
  const { userId, clientIp } = requests[0]!;
  const sweep = sweeper.next(requests.length, { batchId: codes[0]!.batchId, userId, clientIp });
  // Inspects its rows once, in the first round trip.
  const riding = sweep === null ? [] : [sweep.inspect];
  const { batch, outcomes, issued } = await keyCheck.run(async (readsKeys) => {
    const loaded = await RequestBatch.load(tx, () => loadState(tx, requests,
      { secrets, lock: true, readsKeys, riding: riding.splice(0) }));
    return { batch: loaded, ...loaded.decide(requests, codes) };
  }, (decided) => decided.issued.length === requests.length);
  if (issued.length === 0) {
    tx.readOnly();
    return { outcomes, batches: [] };
  }
  const { now, askedAtMs } = batch;
  const leasedUntil = addSeconds(now, LEASE_SECONDS);
  const lease = { clock: new EstimatedClock(now, askedAtMs), leasedUntil };
  const batches = [...groupBy(issued, (index) => codes[index]!.batchId)].map(([batchId, list]) =>
    new OutboxBatch(batchId, list.map((index) =>
      toOutboxMessage(requests[index]!, codes[index]!, now, delivery)), lease));
  batch.flush(tx);
  const sealed = batches.map((one) => one.seal(secrets.current));
  tx.writes.push(insertBatches(sealed, { owner: delivery.owner, leasedUntil }));
  if (sweep !== null) tx.riders.push(sweep);
  tx.riders.push(delivery.createEraser(requests.length));
  return { outcomes, batches };
}

function toOutboxMessage(
  { userId, purpose, policy: { lifetimeSeconds }, clientIp, acceptLanguage }: PreparedRequest,
  { otpId, code, channel }: NewCode,
  now: Instant,
  { localeFor }: Delivery,
): OutboxMessage {
  const expiresAt = addSeconds(now, lifetimeSeconds);
  const locale = localeFor(channel, purpose, acceptLanguage);
  return {
    message: { otpId, userId, purpose, code, lifetimeSeconds, expiresAt, locale },
    clientIp,
    plannedChannel: channel,
  };
}

/** What a request locks: the user, and the client IP and the destination if they are limited. */
export function requestLockKeys(
  policies: Policies,
  { userId, purpose, clientIp }: OtpRequest,
): string[] {
  const lockKeys = [`user ${userId}`];
  if (clientIp !== null) lockKeys.push(`address ${clientIp}`);
  const destination = limitedDestination(policies.for(purpose), userId);
  if (destination !== null) lockKeys.push(`destination ${destination}`);
  return lockKeys;
}

export function prepareRequest(policies: Policies, request: OtpRequest): PreparedRequest {
  // Member by member, because spreading an object into a larger one costs more than a digest.
  const { userId, purpose, clientIp, clientNet48, key, apiClient, acceptLanguage } = request;
  const policy = policies.for(purpose);
  return {
    userId,
    purpose,
    clientIp,
    clientNet48,
    apiClient,
    acceptLanguage,
    policy,
    keyDigest: digestKey('request', key, apiClient),
    appliedLimits: limitsForRequest(policy, userId),
  };
}

/** Longer than a transaction lasts: a later time was stored before the clock was set back. */
const READ_SECONDS = 3;

type LoadOptions<L extends boolean> = Readonly<{
  secrets: Secrets;
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
 * With `lock`, the state is enough to grant. The lock order is OTPs of users, their kept counts,
 * slots of client IPs, hit counters, each in the order of its index; then the clock is read.
 *
 * Without `lock`, the state is enough to refuse, and the transaction has ended. The clock is read
 * first and younger points of client IPs are left out, so that only what counts then refuses.
 * Counts are read before OTPs, so that a count that the sweep moves meanwhile is not added twice.
 * The keys are read last, so that an OTP that refuses a repeat of its own request is also found by
 * its key.
 */
export async function loadState<L extends boolean>(
  tx: Transaction,
  requests: readonly PreparedRequest[],
  { secrets, lock, readsKeys = true, riding = [] }: LoadOptions<L>,
): Promise<LoadedState<L extends true ? Otp : OtpSummary>> {
  const { users, clientIps, keys } = collectNames(requests);
  const limits = requests.flatMap(({ appliedLimits }) => appliedLimits);
  const extraLimits = limits.length === 0 ? ExtraLimitRows.none : new ExtraLimitRows(limits);
  const wrongCounts = new WrongCountRows(secrets);
  let now: Instant = 0;
  let otps: readonly OtpSummary[] = [];
  let slots: readonly IpLimitSlot[] = [];
  let stored: readonly StoredRequest[] = [];
  const clock = mapResult(READ_CLOCK, (time) => { now = time; });
  const readKeys = () => mapResult(loadStoredRequests(keys), (found) => { stored = found; });
  const ofUsers = [
    mapResult<readonly OtpSummary[], void>(lock ? lockOtps(users) : readOtpSummaries(users),
      (found) => { otps = found; }),
    wrongCounts.query(users, lock),
  ];
  const rows: readonly Query<void>[] = [
    ...(lock ? ofUsers : ofUsers.reverse()),
    mapResult(lock ? lockSlots(clientIps) : readSlots(clientIps), (found) => { slots = found; }),
    ...(limits.length === 0 ? [] : extraLimits.queries(lock)),
  ];
  const askedAtMs = monotonicMs();
  if (lock) await tx.read(...rows, clock, ...(readsKeys ? [readKeys()] : []), ...riding);
  else {
    await tx.readAndEnd(clock, ...rows, readKeys());
    slots = slots.filter(({ usedAt }) => usedAt <= now || usedAt > addSeconds(now, READ_SECONDS));
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
    wrongCounts,
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
