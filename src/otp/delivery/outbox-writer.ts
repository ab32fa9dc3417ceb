/**
 * Writes final results to the outbox, many in one transaction. A batch without unsent messages is
 * erased soon, if possible by a transaction that commits anyway. A batch with unsent messages is
 * resealed later, because more of them may be accepted by then.
 */
import { monotonicMs } from '../../db/clock.ts';
import { Unavailable } from '../../db/errors.ts';
import { deleteBatches } from '../../db/tables/outbox.ts';
import type { Rider, Transaction } from '../../db/transaction.ts';
import type { OnDeliveryEvent } from './events.ts';
import type { OutboxBatch } from './outbox-batch.ts';
import type { Outbox, Rerouted } from './outbox.ts';
import { backoffMs } from './pending-message.ts';
import type { PendingMessage } from './pending-message.ts';

/** Erasing is not urgent, and results that arrive within this time share one commit. */
const ERASE_DELAY_MS = 20;

/**
 * An extra statement pays off in a transaction of many requests, or for many batches: the product
 * of both must reach this bound.
 */
const ERASURE_PRODUCT_MIN = 32;

/**
 * Kept short: if the process dies before the batch is resealed, accepted messages are sent again.
 */
const RESEAL_DELAY_MS = 100;

type OutboxWriterDeps = Readonly<{
  outbox: Outbox;
  onEvent: OnDeliveryEvent;
  /** Called after each write, with the batches that it erased. */
  onSaved: (erased: readonly OutboxBatch[]) => void;
}>;

export class OutboxWriter {
  readonly #deps: OutboxWriterDeps;
  readonly #changed = new Set<OutboxBatch>();
  #rerouted: Rerouted[] = [];
  #timer: NodeJS.Timeout | null = null;
  #isEraseDue = false;
  #isSaving = false;
  /** Batches that other transactions are erasing. */
  #erasing = 0;
  #failures = 0;
  #resealedAtMs = -Infinity;

  constructor(deps: OutboxWriterDeps) {
    this.#deps = deps;
  }

  get isBusy(): boolean {
    return this.#isSaving || this.#erasing > 0 || this.#changed.size > 0;
  }

  /**
   * Erases the finished batches in the transaction of some requests, if there are enough of them to
   * be worth a statement.
   */
  createEraser(requests: number): Rider {
    let batches: readonly OutboxBatch[] = [];
    return {
      beforeCommit: (tx) => { batches = this.#eraseIn(tx, requests); },
      afterCommit: (committed) => {
        if (batches.length > 0) this.#onErased(batches, committed);
      },
    };
  }

  #eraseIn(tx: Transaction, requests: number): readonly OutboxBatch[] {
    // A rerouted message and the erasure of its batch must be written in one transaction.
    if (this.#rerouted.length > 0) return [];
    const batches = [...this.#changed].filter(isEmpty);
    if (batches.length * requests < ERASURE_PRODUCT_MIN) return [];
    tx.writes.push(deleteBatches(batches.map(({ batchId }) => batchId).sort()));
    this.#erasing += batches.length;
    for (const batch of batches) this.#changed.delete(batch);
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (!this.#isSaving) this.#scheduleNext();
    return batches;
  }

  #onErased(batches: readonly OutboxBatch[], committed: boolean): void {
    this.#erasing -= batches.length;
    if (!committed) {
      for (const batch of batches) this.#changed.add(batch);
      this.#schedule(true);
    }
    this.#deps.onSaved(committed ? batches : []);
  }

  /** Removes a message with a final result from its batch. */
  settle({ message, batch }: PendingMessage, rerouted: Rerouted | null = null): void {
    batch.settle(message);
    this.#changed.add(batch);
    if (rerouted !== null) this.#rerouted.push(rerouted);
    this.#schedule(batch.size === 0);
  }

  /** A finished batch moves the next write forward; the other batches wait for their own time. */
  #schedule(isEraseDue: boolean): void {
    if (this.#isSaving || (this.#timer !== null && (this.#isEraseDue || !isEraseDue))) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#isEraseDue = isEraseDue;
    this.#startTimer(isEraseDue ? ERASE_DELAY_MS : RESEAL_DELAY_MS);
  }

  #startTimer(delayMs: number): void {
    this.#timer = setTimeout(() => void this.#save(), delayMs).unref();
  }

  async #save(): Promise<void> {
    this.#timer = null;
    this.#isSaving = true;
    const now = monotonicMs();
    const isResealDue = now - this.#resealedAtMs >= RESEAL_DELAY_MS;
    if (isResealDue) this.#resealedAtMs = now;
    const batches = [...this.#changed].filter((batch) => isResealDue || isEmpty(batch));
    const rerouted = this.#rerouted;
    for (const batch of batches) this.#changed.delete(batch);
    this.#rerouted = [];
    let erased = batches.filter(isEmpty);
    try {
      await this.#deps.outbox.save(batches, rerouted);
      this.#failures = 0;
    } catch (error) {
      if (!(error instanceof Unavailable)) this.#deps.onEvent({ event: 'delivery_fault', error });
      for (const batch of batches) this.#changed.add(batch);
      this.#rerouted.push(...rerouted);
      this.#failures += 1;
      erased = [];
    }
    this.#isSaving = false;
    this.#scheduleNext();
    this.#deps.onSaved(erased);
  }

  #scheduleNext(): void {
    if (this.#changed.size === 0) return;
    this.#isEraseDue = [...this.#changed].some(isEmpty);
    const delayMs = this.#isEraseDue ? ERASE_DELAY_MS : RESEAL_DELAY_MS;
    this.#startTimer(this.#failures === 0 ? delayMs : backoffMs(this.#failures));
  }
}

function isEmpty({ size }: OutboxBatch): boolean {
  return size === 0;
}
