/**
 * Writes to the outbox what became of messages, many at a time: a bundle of which nothing is left
 * is erased soon, by a transaction that commits anyway when there is one; what is left of one is
 * sealed anew after a while, because more may be accepted.
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

/** It is no hurry: one list of what was accepted meanwhile costs one flush to disk. */
const DONE_MS = 20;

/** A statement more costs little beside many requests, or for many bundles: product of both. */
const WORTH_A_STATEMENT = 32;

/** Until then a crash may repeat what was accepted, so it is not long. */
const LEFT_MS = 100;

/** What it needs. */
type OutboxWriterDeps = Readonly<{
  outbox: Outbox;
  onEvent: OnDeliveryEvent;
  /** Told of bundles that are erased, whenever it has saved. */
  onSaved: (erased: readonly OutboxBatch[]) => void;
}>;

/** Saves the bundles of one process. */
export class OutboxWriter {
  readonly #parts: OutboxWriterDeps;
  readonly #changed = new Set<OutboxBatch>();
  #rerouted: Rerouted[] = [];
  #timer: NodeJS.Timeout | null = null;
  #isHurried = false;
  #isSaving = false;
  /** Bundles that others are erasing. */
  #away = 0;
  #failures = 0;
  #allSavedAtMs = -Infinity;

  constructor(parts: OutboxWriterDeps) {
    this.#parts = parts;
  }

  /** True while something is to be saved. */
  get isBusy(): boolean {
    return this.#isSaving || this.#away > 0 || this.#changed.size > 0;
  }

  /** Erases sent batches in the transaction of some requests, if that is worth a statement. */
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
    // A message that went by another channel is recorded in the transaction that erases its batch.
    if (this.#rerouted.length > 0) return [];
    const batches = [...this.#changed].filter(isDone);
    if (batches.length * requests < WORTH_A_STATEMENT) return [];
    tx.writes.push(deleteBatches(batches.map(({ batchId }) => batchId).sort()));
    this.#away += batches.length;
    for (const bundle of batches) this.#changed.delete(bundle);
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (!this.#isSaving) this.#goOn();
    return batches;
  }

  #onErased(batches: readonly OutboxBatch[], committed: boolean): void {
    this.#away -= batches.length;
    if (!committed) {
      for (const batch of batches) this.#changed.add(batch);
      this.#schedule(true);
    }
    this.#parts.onSaved(committed ? batches : []);
  }

  /** Leaves a message out of its bundle: it was accepted, or its code has come to an end. */
  settle({ message, batch }: PendingMessage, rerouted: Rerouted | null = null): void {
    batch.settle(message);
    this.#changed.add(batch);
    if (rerouted !== null) this.#rerouted.push(rerouted);
    this.#schedule(batch.size === 0);
  }

  /** A bundle of which one is done makes it hurry; the others of it wait for the next time. */
  #schedule(isHurried: boolean): void {
    if (this.#isSaving || (this.#timer !== null && (this.#isHurried || !isHurried))) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#isHurried = isHurried;
    this.#arm(isHurried ? DONE_MS : LEFT_MS);
  }

  #arm(delayMs: number): void {
    this.#timer = setTimeout(() => void this.#save(), delayMs).unref();
  }

  async #save(): Promise<void> {
    this.#timer = null;
    this.#isSaving = true;
    const now = monotonicMs();
    const isAll = now - this.#allSavedAtMs >= LEFT_MS;
    if (isAll) this.#allSavedAtMs = now;
    const batches = [...this.#changed].filter((bundle) => isAll || isDone(bundle));
    const rerouted = this.#rerouted;
    for (const bundle of batches) this.#changed.delete(bundle);
    this.#rerouted = [];
    let erased = batches.filter(isDone);
    try {
      await this.#parts.outbox.save(batches, rerouted);
      this.#failures = 0;
    } catch (error) {
      if (!(error instanceof Unavailable)) this.#parts.onEvent({ event: 'delivery_fault', error });
      for (const bundle of batches) this.#changed.add(bundle);
      this.#rerouted.push(...rerouted);
      this.#failures += 1;
      erased = [];
    }
    this.#isSaving = false;
    this.#goOn();
    this.#parts.onSaved(erased);
  }

  #goOn(): void {
    if (this.#changed.size === 0) return;
    this.#isHurried = [...this.#changed].some(isDone);
    const delayMs = this.#isHurried ? DONE_MS : LEFT_MS;
    this.#arm(this.#failures === 0 ? delayMs : backoffMs(this.#failures));
  }
}

function isDone({ size }: OutboxBatch): boolean {
  return size === 0;
}
