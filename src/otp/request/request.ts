/** POST /otp/request for a list of requests: load, decide, write, commit, send. */
import { nameRequest, RequestBatch } from './batch.ts';
import type { NamedRequest } from './batch.ts';
import { byKey, groupBy } from '../batch/changed-rows.ts';
import type { ChannelName } from '../channels/channel.ts';
import { createOtpIds } from '../crypto/otp-id.ts';
import { randomBatchId, randomCode } from '../crypto/random.ts';
import { digestCode } from '../crypto/secrets.ts';
import type { Secrets } from '../crypto/secrets.ts';
import { monotonicMs, EstimatedClock } from '../../db/clock.ts';
import { addSeconds } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { ConnectionPool } from '../../db/pool.ts';
import type { Hex } from '../../db/query.ts';
import type { SweepStep, Sweeper } from '../../db/sweep/sweeper.ts';
import { BATCH_MESSAGES_MAX, deleteBatches, insertBatches } from '../../db/tables/outbox.ts';
import { transaction } from '../../db/transaction.ts';
import type { Transaction } from '../../db/transaction.ts';
import { decideRequest } from './decide.ts';
import type { Delivery } from '../delivery/delivery.ts';
import { OutboxBatch, LEASE_SECONDS } from '../delivery/outbox-batch.ts';
import type { OutboxMessage } from '../delivery/outbox-batch.ts';
import type { OtpCounts } from '../metrics.ts';
import type { OtpRequest, RequestOutcome } from '../outcomes.ts';
import type { Policies } from '../policy/policy.ts';
import type { KeyReading } from './screen.ts';

/** What issuing codes needs. */
export type RequestDeps = Readonly<{
  keyReading: KeyReading;
  pool: ConnectionPool;
  policies: Policies;
  secrets: Secrets;
  sweeper: Sweeper;
  delivery: Delivery;
  counts?: OtpCounts;
}>;

/** A request with all that is drawn or derived before the transaction, which may run again. */
type PreparedRequest = NamedRequest &
  Readonly<{
    otpId: Hex;
    keyId: string;
    code: string;
    digest: Hex;
    batchId: Hex;
    batchNumber: number;
    channel: ChannelName;
  }>;

/**
 * Issues codes to a list of requests in one transaction, in the order of the list, and hands the
 * messages over once it is committed.
 *
 * @returns one outcome for each request, in order
 * @throws Unavailable when the database cannot answer; then none of them took effect, or their
 *   outcome is unknown and each can be repeated with its key; a message that was stored is sent
 */
export async function requestOtps(
  parts: RequestDeps,
  inputs: readonly OtpRequest[],
): Promise<RequestOutcome[]> {
  const members = prepareRequests(parts, inputs);
  const { outcomes, batches, sweep } = await decideAndErase(parts, members);
  sweep?.onCommitted();
  parts.counts?.noteRequests(outcomes);
  // The answers go first: sending is work of its own.
  if (batches.length > 0) setImmediate(() => parts.delivery.dispatch(batches));
  return outcomes;
}

/** Draws in the order in which the rows are written, so that each comes after the one before. */
function prepareRequests(parts: RequestDeps, inputs: readonly OtpRequest[]): PreparedRequest[] {
  const members = new Array<PreparedRequest>(inputs.length);
  const order = inputs.map((_, index) => index)
    .sort(byKey((index) => inputs[index]!.userId));
  for (let start = 0; start < order.length; start += BATCH_MESSAGES_MAX) {
    const ofOneBundle = order.slice(start, start + BATCH_MESSAGES_MAX);
    const batchId = randomBatchId();
    const otpIds = createOtpIds(parts.secrets.current, batchId, ofOneBundle.length);
    ofOneBundle.forEach((index, batchNumber) => {
      const name = { batchId, batchNumber, otpId: otpIds[batchNumber]! };
      members[index] = prepareRequest(parts, inputs[index]!, name);
    });
  }
  return members;
}

type DrawnName = Pick<PreparedRequest, 'batchId' | 'batchNumber' | 'otpId'>;

function prepareRequest(
  parts: RequestDeps,
  input: OtpRequest,
  { batchId, batchNumber, otpId }: DrawnName,
): PreparedRequest {
  // Member by member, because spreading an object into a larger one costs more than a digest.
  const { userId, purpose, clientIp, policy, keyDigest, appliedLimits, acceptLanguage }
    = nameRequest(parts.policies, input);
  const { current } = parts.secrets;
  const code = randomCode(policy.codeDigits);
  const digest = digestCode(current, otpId, userId, purpose, code);
  const channel = parts.delivery.channelFor(userId);
  return {
    userId, purpose, clientIp, policy, keyDigest, appliedLimits, acceptLanguage,
    otpId, keyId: current.id, code, digest, batchId, batchNumber, channel,
  };
}

/** The commit of the codes takes along what the outbox has no more use for. */
async function decideAndErase(
  parts: RequestDeps,
  members: readonly PreparedRequest[],
): Promise<Decided> {
  const erasure = parts.delivery.takeErasure(members.length);
  let isBatchDeleted = false;
  let runs = 0;
  try {
    const decided = await transaction(parts.pool, async (tx) => {
      // What made it run again may be that a key was not new.
      runs += 1;
      if (runs > 1) parts.keyReading.noteNeed();
      const each = await decideAll(tx, members, parts);
      if (erasure !== null && !tx.hasNothingToKeep) tx.writes.push(deleteBatches(erasure.batchIds));
      return each;
    });
    isBatchDeleted = decided.batches.length > 0;
    return decided;
  } finally {
    erasure?.end(isBatchDeleted);
  }
}

type Decided = Readonly<{
  outcomes: RequestOutcome[];
  batches: OutboxBatch[];
  sweep: SweepStep | null;
}>;

async function decideAll(
  tx: Transaction,
  members: readonly PreparedRequest[],
  { sweeper, secrets, delivery, keyReading }: RequestDeps,
): Promise<Decided> {
  const sweep = sweeper.next(members.length, members[0]!);
  let askedAtMs = monotonicMs();
  const readsKeys = keyReading.next();
  let ledger = await RequestBatch.load(tx, members, { readsKeys, sweep });
  let { outcomes, issued } = decideEach(ledger, members);
  if (!readsKeys && issued.length < members.length) {
    // Before a refusal comes what is stored under the key: a replay, or a key used otherwise.
    keyReading.noteNeed();
    askedAtMs = monotonicMs();
    ledger = await RequestBatch.load(tx, members, { readsKeys: true, sweep: null });
    ({ outcomes, issued } = decideEach(ledger, members));
  }
  if (issued.length === 0) {
    tx.hasNothingToKeep = true;
    return { outcomes, batches: [], sweep: null };
  }
  const leasedUntil = addSeconds(ledger.now, LEASE_SECONDS);
  const lease = { clock: new EstimatedClock(ledger.now, askedAtMs), leasedUntil };
  const batches = [...groupBy(issued, ({ batchId }) => batchId)].map(([batchId, list]) =>
    new OutboxBatch(batchId, list.map((one) => toOutboxMessage(one, ledger.now, delivery)), lease));
  ledger.flush(tx);
  const sealed = batches.map((batch) => batch.seal(secrets.current));
  tx.writes.push(insertBatches(sealed, { owner: delivery.owner, leasedUntil }));
  await sweep?.removeExpired(tx);
  return { outcomes, batches, sweep };
}

/** Decides in the order of arrival, each on what the ones before have left. */
function decideEach(
  ledger: RequestBatch,
  members: readonly PreparedRequest[],
): { outcomes: RequestOutcome[]; issued: PreparedRequest[] } {
  const issued: PreparedRequest[] = [];
  const outcomes = members.map((member) => {
    const { outcome, writes } = decideRequest(ledger.stateFor(member), member, member.policy);
    if (writes !== null) {
      ledger.apply(member, writes);
      issued.push(member);
    }
    return outcome;
  });
  return { outcomes, issued };
}

function toOutboxMessage(
  member: PreparedRequest,
  now: Instant,
  { localeFor }: Delivery,
): OutboxMessage {
  const { otpId, userId, purpose, code, policy, clientIp, channel, acceptLanguage } = member;
  const { lifetimeSeconds } = policy;
  const expiresAt = addSeconds(now, lifetimeSeconds);
  const locale = localeFor(purpose, acceptLanguage);
  return {
    message: { otpId, userId, purpose, code, lifetimeSeconds, expiresAt, locale },
    clientIp,
    plannedChannel: channel,
  };
}
