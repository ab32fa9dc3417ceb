/** POST /otp/request for a batch of requests: load, decide, write, commit, dispatch. */
import { RequestBatch } from './batch.ts';
import { groupBy } from '../batch/changed-rows.ts';
import { randomBatchId, randomCode } from '../crypto/random.ts';
import { createOtpIds, digestCode } from '../crypto/secrets.ts';
import { EstimatedClock } from '../../db/clock.ts';
import { addSeconds } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import { byKey } from '../../db/query.ts';
import { BATCH_MESSAGES_MAX, insertBatches } from '../../db/tables/outbox.ts';
import { transaction } from '../../db/transaction.ts';
import type { Transaction } from '../../db/transaction.ts';
import { decideRequest } from './decide.ts';
import type { NewCode, PreparedRequest } from './decide.ts';
import type { Delivery } from '../delivery/delivery.ts';
import { LEASE_SECONDS, OutboxBatch } from '../delivery/outbox-batch.ts';
import type { OutboxMessage } from '../delivery/outbox-batch.ts';
import type { Deps } from '../deps.ts';
import type { OtpRequest, RequestOutcome } from '../outcomes.ts';
import { loadState, prepareRequest } from './state.ts';

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
): Promise<RequestOutcome[]> {
  // Before the transaction, which may run several times.
  const requests = inputs.map((input) => prepareRequest(deps.policies, input));
  const codes = drawCodes(deps, requests);
  let runs = 0;
  const { outcomes, batches } = await transaction(deps.pool, (tx) => {
    runs += 1;
    // The reason of the rerun may be a used key that the unique index has rejected.
    if (runs > 1) deps.keyCheck.onUsedKey();
    return decideAll(tx, requests, codes, deps);
  });
  deps.counts?.countRequests(outcomes);
  // Responses go first.
  if (batches.length > 0) setImmediate(() => deps.delivery.dispatch(batches));
  return outcomes;
}

/** In the order in which the rows are written, so that each otp_id comes after the one before. */
function drawCodes(
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
  { sweeper, secrets, delivery, keyCheck }: RequestDeps,
): Promise<Decided> {
  const { userId, clientIp } = requests[0]!;
  const sweep = sweeper.next(requests.length, { batchId: codes[0]!.batchId, userId, clientIp });
  // Inspects its rows once, in the first round trip.
  const riding = sweep === null ? [] : [sweep.inspect];
  const { state, batch, outcomes, issued } = await keyCheck.run(async (readsKeys) => {
    const loaded = await loadState(tx, requests,
      { lock: true, readsKeys, riding: riding.splice(0) });
    return { state: loaded, ...decideEach(new RequestBatch(loaded), requests, codes) };
  }, (decided) => decided.issued.length === requests.length);
  if (issued.length === 0) {
    tx.readOnly();
    return { outcomes, batches: [] };
  }
  const { now, askedAtMs } = state;
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

/** Decides in order of arrival; `issued` has the indexes of the requests that got their code. */
function decideEach(
  batch: RequestBatch,
  requests: readonly PreparedRequest[],
  codes: readonly NewCode[],
) {
  const issued: number[] = [];
  const outcomes = requests.map((request, index) => {
    const { outcome, writes } = decideRequest(batch.stateFor(request), request, codes[index]!);
    if (writes !== null) {
      batch.apply(request, writes);
      issued.push(index);
    }
    return outcome;
  });
  return { batch, outcomes, issued };
}

function toOutboxMessage(
  { userId, purpose, policy: { lifetimeSeconds }, clientIp, acceptLanguage }: PreparedRequest,
  { otpId, code, channel }: NewCode,
  now: Instant,
  { localeFor }: Delivery,
): OutboxMessage {
  const expiresAt = addSeconds(now, lifetimeSeconds);
  const locale = localeFor(purpose, acceptLanguage);
  return {
    message: { otpId, userId, purpose, code, lifetimeSeconds, expiresAt, locale },
    clientIp,
    plannedChannel: channel,
  };
}
