/**
 * Writes to the outbox what became of messages, many at a time: a batch of which nothing is left
 * is erased soon, by a transaction that commits anyway when there is one; what is left of one is
 * sealed anew after a while, because more may be accepted.
 */
import { monotonicMs } from '../../db/clock.ts';
import { Unavailable } from '../../db/errors.ts';
import type { Hex } from '../../db/query.ts';
import type { OnDeliveryEvent } from './events.ts';
import type { OutboxBatch } from './outbox-batch.ts';
import type { Outbox, Rerouted } from './outbox.ts';
import { backoffMs } from './pending-message.ts';
import type { PendingMessage } from './pending-message.ts';

/** It is no hurry: one list of what was accepted meanwhile costs one flush to disk. */
const ERASE_DELAY_MS = 20;

/** A statement more costs little beside many requests, or for many bundles: product of both. */
const ERASURE_PRODUCT_MIN = 32;

/** Until then a crash may repeat what was accepted, so it is not long. */
const RESEAL_DELAY_MS = 100;

/** What it needs. */
type OutboxWriterDeps = Readonly<{
  outbox: Outbox;
  onEvent: OnDeliveryEvent;
  /** Told of bundles that are erased, whenever it has saved. */
  onSaved: (erased: readonly OutboxBatch[]) => void;
}>;

/** Bundles that a transaction of somebody else erases. */
export type Erasure = Readonly<{
  batchIds: readonly Hex[];
  /** To be told once how the transaction ended: whether it was committed, erasure and all. */
  end: (isCommitted: boolean) => void;
}>;

/** Saves the bundles of one process. */
export class OutboxWriter {
  readonly #deps: OutboxWriterDeps;
  readonly #changed = new Set<OutboxBatch>();
  #rerouted: Rerouted[] = [];
  #timer: NodeJS.Timeout | null = null;
  #isEraseDue = false;
  #isSaving = false;
  /** Bundles that others are erasing. */
  #erasing = 0;
  #failures = 0;
  #resealedAtMs = -Infinity;

  constructor(deps: OutboxWriterDeps) {
    this.#deps = deps;
  }

  /** True while something is to be saved. */
  get isBusy(): boolean {
    return this.#isSaving || this.#erasing > 0 || this.#changed.size > 0;
  }

  /**
   * Gives a transaction what is to be erased, when it is worth it.
   *
   * @param requests how many requests the transaction serves
   */
  takeErasure(requests: number): Erasure | null {
    // What went by another channel is noted in the transaction that erases its batch.
    if (this.#rerouted.length > 0) return null;
    const batches = [...this.#changed].filter(isEmpty);
    if (batches.length * requests < ERASURE_PRODUCT_MIN) return null;
    this.#erasing += batches.length;
    for (const batch of batches) this.#changed.delete(batch);
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (!this.#isSaving) this.#scheduleNext();
    const end = (isCommitted: boolean): void => {
      this.#erasing -= batches.length;
      if (!isCommitted) {
        for (const batch of batches) this.#changed.add(batch);
        this.#schedule(true);
      }
      this.#deps.onSaved(isCommitted ? batches : []);
    };
    return { batchIds: batches.map(({ batchId }) => batchId).sort(), end };
  }

  /** Leaves a message out of its batch: it was accepted, or its code has come to an end. */
  settle({ message, batch }: PendingMessage, rerouted: Rerouted | null = null): void {
    batch.settle(message);
    this.#changed.add(batch);
    if (rerouted !== null) this.#rerouted.push(rerouted);
    this.#schedule(batch.size === 0);
  }

  /** A batch of which one is done makes it hurry; the others of it wait for the next time. */
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
