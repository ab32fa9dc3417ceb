/**
 * Reclaims outbox batches whose lease has expired: their process has died, stopped, or had no
 * capacity.
 */
import { randomBelow } from '../crypto/random.ts';
import { openMessages } from '../crypto/sealed-messages.ts';
import type { Secrets } from '../crypto/secrets.ts';
import { Unavailable } from '../../db/errors.ts';
import type { Hex } from '../../db/query.ts';
import { BATCH_MESSAGES_MAX } from '../../db/tables/outbox.ts';
import type { SealedBatch } from '../../db/tables/outbox.ts';
import type { Dispatcher } from './dispatcher.ts';
import type { OnDeliveryEvent } from './events.ts';
import type { DeliveryCounts } from './events.ts';
import { OutboxBatch } from './outbox-batch.ts';
import type { HeldLease } from './outbox-batch.ts';
import type { Outbox } from './outbox.ts';

/** A poll is cheap, because the table is nearly always empty; an OTP lives for minutes. */
const POLL_INTERVAL_MS = 4000;
/** Keeps processes from polling at the same time. */
const POLL_JITTER_MS = 2000;

const BATCHES_MAX = 50;

type ReclaimerDeps = Readonly<{
  outbox: Outbox;
  dispatcher: Dispatcher;
  secrets: Secrets;
  onEvent: OnDeliveryEvent;
  counts: DeliveryCounts;
}>;

export class Reclaimer {
  readonly #deps: ReclaimerDeps;
  #timer: NodeJS.Timeout | null = null;
  #isStopped = false;
  #polling: Promise<void> = Promise.resolve();

  constructor(deps: ReclaimerDeps) {
    this.#deps = deps;
  }

  start(): void {
    this.#polling = this.#poll();
  }

  /** Resolves when a poll in flight has ended. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#polling;
  }

  async #poll(): Promise<void> {
    try {
      let mayBeMore = true;
      while (mayBeMore && !this.#isStopped) mayBeMore = await this.#reclaim();
    } catch (error) {
      if (!(error instanceof Unavailable)) this.#deps.onEvent({ event: 'delivery_fault', error });
    }
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => this.start(), POLL_INTERVAL_MS + randomBelow(POLL_JITTER_MS));
    this.#timer.unref();
  }

  /** True when the limit was reached, so that there may be more. */
  async #reclaim(): Promise<boolean> {
    const { outbox, dispatcher, onEvent, counts } = this.#deps;
    const max = Math.min(BATCHES_MAX, Math.floor(dispatcher.capacity / BATCH_MESSAGES_MAX));
    if (max <= 0) return false;
    const { batches, lease } = await outbox.reclaim(max);
    let count = 0;
    for (const sealed of batches) {
      const own = dispatcher.findBatch(sealed.batchId);
      // This process owns the batch but was too busy to renew the lease in time.
      if (own !== undefined) own.renew(lease);
      else {
        await this.#adopt(sealed, lease);
        count += sealed.otpIds.length;
      }
    }
    counts.reclaimed += count;
    if (count > 0) onEvent({ event: 'delivery_taken_over', count });
    return count > 0 && batches.length === max;
  }

  async #adopt({ batchId, otpIds, keyId, sealed }: SealedBatch, lease: HeldLease): Promise<void> {
    const { dispatcher, secrets } = this.#deps;
    const secret = secrets.byId.get(keyId);
    const messages = secret === undefined ? null : openMessages(secret, batchId, otpIds, sealed);
    if (messages === null) return this.#closeUnreadable(batchId, otpIds, lease);
    // The channel in the OTP row is unknown here. With '' the channel that accepts is stored.
    const list = messages.map((one) => ({ ...one, plannedChannel: '' }));
    dispatcher.dispatch(new OutboxBatch(batchId, list, lease), true);
  }

  async #closeUnreadable(batchId: Hex, otpIds: readonly Hex[], lease: HeldLease): Promise<void> {
    const { outbox, onEvent, counts } = this.#deps;
    for (const otpId of otpIds) onEvent({ event: 'delivery_unreadable', otpId });
    const failure = { channel: null, reason: 'unreadable' };
    const failed = { userId: null, batchId, subjects: [], failure };
    await Promise.all(otpIds.map((otpId) => outbox.fail({ otpId, ...failed })));
    counts.failed.unreadable += otpIds.length;
    await outbox.save([new OutboxBatch(batchId, [], lease)], []);
  }
}
