/** Takes over the messages that processes have left which died, stopped or had no room for them. */
import { randomBelow } from '../crypto/random.ts';
import { openMessages } from '../crypto/sealed-messages.ts';
import type { Secrets } from '../crypto/secrets.ts';
import { Unavailable } from '../../db/errors.ts';
import { BATCH_MESSAGES_MAX } from '../../db/tables/outbox.ts';
import type { SealedBatch } from '../../db/tables/outbox.ts';
import type { Dispatcher } from './dispatcher.ts';
import type { OnDeliveryEvent } from './events.ts';
import type { DeliveryCounts } from './metrics.ts';
import { OutboxBatch } from './outbox-batch.ts';
import type { HeldLease } from './outbox-batch.ts';
import type { Outbox } from './outbox.ts';

/** One question to a table that is nearly always empty; codes live for minutes. */
const POLL_MS = 4000;
/** So that many processes do not look at the same time. */
const POLL_JITTER_MS = 2000;

const LIST_MAX = 50;

/** What it needs. */
type ReclaimerDeps = Readonly<{
  outbox: Outbox;
  dispatcher: Dispatcher;
  secrets: Secrets;
  onEvent: OnDeliveryEvent;
  counts: DeliveryCounts;
}>;

/** Looks at the start, and again every few seconds until it is stopped. */
export class Reclaimer {
  readonly #parts: ReclaimerDeps;
  #timer: NodeJS.Timeout | null = null;
  #isStopped = false;
  #polling: Promise<void> = Promise.resolve();

  constructor(parts: ReclaimerDeps) {
    this.#parts = parts;
  }

  /** Begins. */
  start(): void {
    this.#polling = this.#poll();
  }

  /** Ends, once a look that is under way has ended. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#polling;
  }

  async #poll(): Promise<void> {
    try {
      while (!this.#isStopped && (await this.#reclaim())) { /* there may be more */ }
    } catch (error) {
      if (!(error instanceof Unavailable)) this.#parts.onEvent({ event: 'delivery_fault', error });
    }
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => this.start(), POLL_MS + randomBelow(POLL_JITTER_MS));
    this.#timer.unref();
  }

  /** True when it took over as many as it could at once. */
  async #reclaim(): Promise<boolean> {
    const { outbox, dispatcher, onEvent, counts } = this.#parts;
    const max = Math.min(LIST_MAX, Math.floor(dispatcher.room / BATCH_MESSAGES_MAX));
    if (max <= 0) return false;
    const { batches, lease } = await outbox.reclaim(max);
    let count = 0;
    for (const sealed of batches) {
      const own = dispatcher.batchOf(sealed.batchId);
      // This process was too busy, or stopped for too long, to renew it.
      if (own !== undefined) own.renew(lease);
      else {
        await this.#take(sealed, lease);
        count += sealed.otpIds.length;
      }
    }
    counts.reclaimed += count;
    if (count > 0) onEvent({ event: 'delivery_taken_over', count });
    return count > 0 && batches.length === max;
  }

  async #take({ batchId, otpIds, keyId, sealed }: SealedBatch, lease: HeldLease): Promise<void> {
    const { dispatcher, secrets, onEvent, outbox, counts } = this.#parts;
    const secret = secrets.byId.get(keyId);
    const messages = secret === undefined ? null : openMessages(secret, batchId, otpIds, sealed);
    // Which channels the rows of the codes name is not known here: none, so they are written anew.
    const list = messages?.map((one) => ({ ...one, planned: '' })) ?? [];
    const batch = new OutboxBatch(batchId, list, lease);
    if (messages !== null) return dispatcher.dispatch(batch, true);
    for (const otpId of otpIds) onEvent({ event: 'delivery_unreadable', otpId });
    await Promise.all(otpIds.map((otpId) => outbox.fail({ otpId, batchId, clientIp: null })));
    counts.failed.unreadable += otpIds.length;
    await outbox.save([batch], []);
  }
}
