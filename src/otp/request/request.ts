/** POST /otp/request for a batch of requests: load, decide, write, commit, dispatch. */
import { loadState, RequestBatch } from './batch.ts';
import { groupBy } from '../batch/changed-rows.ts';
import type { OptimisticKeyCheck } from '../batch/changed-rows.ts';
import { NO_CLAIMS, readDeviceTokens } from '../crypto/devices.ts';
import { randomBatchId, randomCode } from '../crypto/random.ts';
import {
  createOtpIds, digestCode, digestKey, digestRecipient, fingerprintOptions,
} from '../crypto/secrets.ts';
import type { Secrets } from '../crypto/secrets.ts';
import { EstimatedClock } from '../../db/clock.ts';
import { addSeconds } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import { byKey } from '../../db/query.ts';
import { BATCH_MESSAGES_MAX, insertBatches } from '../../db/tables/outbox.ts';
import { transaction } from '../../db/transaction.ts';
import type { Transaction } from '../../db/transaction.ts';
import type { NewCode, PreparedRequest } from './decide.ts';
import type { Delivery } from '../delivery/delivery.ts';
import { LEASE_SECONDS, OutboxBatch } from '../delivery/outbox-batch.ts';
import type { OutboxMessage } from '../delivery/outbox-batch.ts';
import type { Deps } from '../deps.ts';
import type { OtpRequest, RequestOutcome } from '../outcomes.ts';
import type { Policies } from '../policy/policy.ts';
import { markTests } from '../policy/test-identities.ts';
import type { TestIdentities } from '../policy/test-identities.ts';
import { limitedDestination, limitsForRequest } from '../rules/extra-limits.ts';
import {
  limitedRecipient, NO_SLOT_LIMITS, RECIPIENT_PREFIX, slotLimitsForRequest,
} from '../rules/ip-limit.ts';
import type { SlotLimit } from '../rules/ip-limit.ts';

/** The optimistic check lasts as long as the process. */
type RequestDeps = Deps & Readonly<{ keyCheck: OptimisticKeyCheck }>;

/** What each run of the transaction begins with. */
type Prepared = Readonly<{
  requests: readonly PreparedRequest[];
  /** One for each request, the same in every run. The first call creates them. */
  codes: () => readonly NewCode[];
  testIdentities: TestIdentities;
}>;

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
  const requests = inputs.map((input) => prepareRequest(deps, input));
  const { testIdentities } = deps.policies;
  let created: readonly NewCode[] | null = null;
  const codes = () => created ??= createCodes(deps, requests);
  const prepared = { requests, codes, testIdentities };
  let runs = 0;
  const { outcomes, batches } = await transaction(deps.pool, (tx) => {
    runs += 1;
    // The reason of the rerun may be a used key that the unique index has rejected.
    if (runs > 1) deps.keyCheck.onUsedKey();
    return decideAll(tx, prepared, deps);
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
      const request = requests[index]!;
      const otpId = otpIds[batchNumber]!;
      const code = randomCode(request.policy.codeDigits);
      const digest = digestCode(current, otpId, request.userId, request.purpose, code);
      const channel = delivery.channelFor(request);
      codes[index] = {
        otpId, keyId: current.id, code, digest, batchId, batchNumber, channel, isTest: false,
      };
    });
  }
  return codes;
}

/** The code of a user who is a test identity until the code would expire; otherwise null. */
export function fixedCodeOf(
  testIdentities: TestIdentities,
  { userId, purpose, policy: { lifetimeSeconds } }: PreparedRequest,
  now: Instant,
): string | null {
  return testIdentities.codeFor(userId, purpose, addSeconds(now, lifetimeSeconds));
}

function withFixedCodes(
  { requests, codes, testIdentities }: Prepared,
  { current }: Secrets,
  now: Instant,
): readonly NewCode[] {
  if (testIdentities.isEmpty) return codes();
  return codes().map((random, index) => {
    const request = requests[index]!;
    const code = fixedCodeOf(testIdentities, request, now);
    if (code === null) return random;
    const digest = digestCode(current, random.otpId, request.userId, request.purpose, code);
    return { ...random, code, digest, isTest: true };
  });
}

type Decided = Readonly<{ outcomes: RequestOutcome[]; batches: readonly OutboxBatch[] }>;

async function decideAll(
  tx: Transaction,
  prepared: Prepared,
  deps: RequestDeps,
): Promise<Decided> {
  const { sweeper, secrets, delivery, keyCheck } = deps;
  const { requests } = prepared;
  const { userId, clientIp } = requests[0]!;
  const sweep = sweeper.next(requests.length, { batchId: randomBatchId(), userId, clientIp });
  // Inspects its rows once, in the first round trip.
  const riding = sweep === null ? [] : [sweep.inspect];
  const { batch, codes, identified, issued, ...decided } = await keyCheck.run(async (readsKeys) => {
    const loading = RequestBatch.load(tx, () => loadState(tx, requests,
      { secrets, lock: true, readsKeys, riding: riding.splice(0) }));
    // Creates the codes while the database reads.
    prepared.codes();
    const loaded = await loading;
    const dealt = withFixedCodes(prepared, secrets, loaded.now);
    return { batch: loaded, codes: dealt, ...loaded.decide(requests, dealt) };
  }, (run) => run.issued.length === requests.length);
  const hasTests = codes !== prepared.codes();
  const outcomes = hasTests ? markTests(decided.outcomes, (index) => codes[index]!.isTest)
    : decided.outcomes;
  if (issued.length === 0) {
    tx.readOnly();
    return { outcomes, batches: [] };
  }
  const { now, askedAtMs } = batch;
  const leasedUntil = addSeconds(now, LEASE_SECONDS);
  const lease = { clock: new EstimatedClock(now, askedAtMs), leasedUntil };
  const announced = hasTests ? issued.filter((index) => !codes[index]!.isTest) : issued;
  const batches = [...groupBy(announced, (index) => codes[index]!.batchId)].map(([batchId, list]) =>
    new OutboxBatch(batchId, list.map((index) =>
      toOutboxMessage(identified[index]!, codes[index]!, now, delivery)), lease));
  batch.flush(tx);
  const sealed = batches.map((one) => one.seal(secrets.current));
  if (sealed.length > 0) {
    tx.writes.push(insertBatches(sealed, { owner: delivery.owner, leasedUntil }));
  }
  if (sweep !== null) tx.riders.push(sweep);
  tx.riders.push(delivery.createEraser(requests.length));
  return { outcomes, batches };
}

function toOutboxMessage(
  request: PreparedRequest,
  { otpId, code, channel: plannedChannel }: NewCode,
  now: Instant,
  { localeFor }: Delivery,
): OutboxMessage {
  const { userId, to, purpose, channel, policy: { lifetimeSeconds }, slotLimits } = request;
  const expiresAt = addSeconds(now, lifetimeSeconds);
  const locale = localeFor(plannedChannel, purpose, request.locale ?? request.acceptLanguage);
  return {
    message: { otpId, userId, to, purpose, code, lifetimeSeconds, expiresAt, locale, channel },
    subjects: slotLimits.map(({ subject }) => subject),
    plannedChannel,
  };
}

/**
 * What a request locks: the user, the client IP and its /48, the recipient and the destination.
 * Each key begins with the name of a limit.
 */
export function requestLockKeys(
  policies: Policies,
  request: OtpRequest,
): string[] {
  const { userId, purpose, clientIp, clientNet48 } = request;
  const policy = policies.for(purpose);
  const lockKeys = [`user ${userId}`];
  if (clientIp !== null) lockKeys.push(`address ${clientIp}`);
  if (clientNet48 !== null && policy.netLimit !== null) lockKeys.push(`net48 ${clientNet48}`);
  const recipient = limitedRecipient(policy, request);
  if (recipient !== null) lockKeys.push(`recipient ${recipient}`);
  const destination = limitedDestination(policy, request);
  if (destination !== null) lockKeys.push(`destination ${destination}`);
  return lockKeys;
}

export function prepareRequest(
  { policies, secrets }: Pick<Deps, 'policies' | 'secrets'>,
  request: OtpRequest,
): PreparedRequest {
  // Member by member, because spreading an object into a larger one costs more than a digest.
  const { userId, purpose, clientIp, clientNet48, key, apiClient, acceptLanguage } = request;
  const policy = policies.for(purpose);
  const recipient = limitedRecipient(policy, request);
  const claims = policy.deviceDays === null ? NO_CLAIMS
    : readDeviceTokens(secrets, userId, request.deviceTokens ?? '');
  const slotLimitsOf = (isDevice: boolean): readonly SlotLimit[] =>
    slotLimitsForRequest(policy, {
      clientIp,
      clientNet48,
      recipient: recipient === null ? null
        : RECIPIENT_PREFIX + digestRecipient(secrets.current, recipient, isDevice),
    });
  return {
    userId,
    purpose,
    device: '',
    claims,
    clientIp,
    clientNet48,
    apiClient,
    acceptLanguage,
    to: request.to ?? null,
    channel: request.channel ?? null,
    locale: request.locale ?? null,
    policy,
    keyDigest: digestKey('request', key, apiClient),
    fingerprints: fingerprintOptions(secrets, request),
    slotLimits: slotLimitsOf(false),
    deviceSlotLimits: claims.length === 0 ? NO_SLOT_LIMITS : slotLimitsOf(true),
    appliedLimits: limitsForRequest(policy, request),
  };
}
