/**
 * Collects items that arrive while other work is in flight, and runs them as one batch. A
 * transaction costs per statement and per commit, so the cost of an item falls under load. A lone
 * item does not wait.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { ANSWER_MS, monotonicMs } from '../db/clock.ts';
import { Unavailable } from '../db/errors.ts';
import { Histogram } from '../metrics/families.ts';

/** The bounds of a batcher; all counts are at least 1. */
export type BatchLimits = Readonly<{
  /** How many batches may be in flight at once. */
  concurrencyMax: number;
  /** How many items a batch may have. */
  batchMax: number;
  /**
   * How many items must wait before another batch starts next to those in flight, because large
   * batches cost less than many. While there are few items, a fair share of them suffices.
   */
  backlogPerBatch: number;
  waitingMax: number;
}>;

export type BatcherOptions<I, O> = BatchLimits & Readonly<{
  /** Runs a batch within the time of its oldest item; one result for each item, in order. */
  run: (items: readonly I[], answerByMs: number) => Promise<readonly O[]>;
  /**
   * What an item locks. Two batches in flight have no lock key in common, so that neither waits for
   * a lock of the other; items with a common lock key keep their order.
   */
  lockKeysOf: (item: I) => readonly string[];
  /** The pause after a batch of that size, in milliseconds; none by default. */
  pauseMs?: (size: number) => number;
}>;

type Waiting<I, O> = {
  readonly item: I;
  readonly lockKeys: readonly string[];
  readonly isConnected: () => boolean;
  readonly answerByMs: number;
  readonly resolve: (result: O) => void;
  readonly reject: (error: unknown) => void;
  ticks: number;
};

/** One timer measures how long items wait, in ticks; it runs only while an item waits. */
const TICK_MS = 250;

/** A single item next to a batch in flight would cost a transaction of its own. */
const BACKLOG_MIN = 2;

/** An item starts only with this much of its time left, for a transaction and a commit probe. */
const WORK_MIN_MS = 1000;

/** From a lone item to the largest batch, that of refusals. */
const SIZE_BOUNDS: readonly number[] = Object.freeze([1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);

/** One for each kind of work in a process. */
export class Batcher<I, O> {
  /** The sizes of the batches that have ended. */
  readonly sizes = new Histogram(SIZE_BOUNDS);
  readonly #options: BatcherOptions<I, O>;
  readonly #heldLockKeys = new Set<string>();
  #queue: Waiting<I, O>[] = [];
  #batchesInFlight = 0;
  #itemsInFlight = 0;
  #isStartDue = false;
  /** Every waiting item has a lock key in common with one in flight or with an earlier one. */
  #isBlocked = false;
  #timer: NodeJS.Timeout | null = null;

  constructor(options: BatcherOptions<I, O>) {
    this.#options = options;
  }

  get waiting(): number {
    return this.#queue.length;
  }

  /** True while a batch is in flight or an item waits. */
  get isBusy(): boolean {
    return this.#batchesInFlight > 0 || this.#queue.length > 0;
  }

  /**
   * @param isConnected called once, before the item's batch starts; the item is dropped when the
   *   result is false
   * @param answerByMs when the result is due, by monotonicMs()
   * @throws Unavailable when too many items wait, or when this one waited too long and its work
   *   has not begun; else the error of the work of this item alone
   */
  submit(
    item: I,
    isConnected: () => boolean = () => true,
    answerByMs: number = monotonicMs() + ANSWER_MS,
  ): Promise<O> {
    if (this.#queue.length >= this.#options.waitingMax) {
      return Promise.reject(new Unavailable('too many requests wait'));
    }
    return new Promise((resolve, reject) => {
      const lockKeys = this.#options.lockKeysOf(item);
      this.#queue.push({ item, lockKeys, isConnected, answerByMs, resolve, reject, ticks: 0 });
      if (!lockKeys.some((lockKey) => this.#heldLockKeys.has(lockKey))) this.#isBlocked = false;
      this.#scheduleStart();
    });
  }

  /** Starts after the poll phase, so that requests that are readable together share a batch. */
  #scheduleStart(): void {
    if (this.#isStartDue) return;
    this.#isStartDue = true;
    setImmediate(() => {
      this.#isStartDue = false;
      this.#startBatches();
      this.#timer ??= this.#queue.length === 0 ? null : this.#startTimer();
    });
  }

  #startBatches(): void {
    while (!this.#isBlocked && this.#batchesInFlight < this.#options.concurrencyMax) {
      if (this.#queue.length < this.#backlogToStart()) return;
      const batch = this.#takeBatch();
      this.#isBlocked = batch.length === 0 && this.#queue.length > 0;
      if (batch.length > 0) void this.#runBatch(batch);
    }
  }

  #backlogToStart(): number {
    // A batch that takes a tick may be stuck, and must not hold up other items.
    const mayBeStuck = (this.#queue[0]?.ticks ?? 0) > 0;
    if (this.#batchesInFlight === 0 || mayBeStuck) return 1;
    const { concurrencyMax, backlogPerBatch } = this.#options;
    const fairShare = Math.ceil((this.#queue.length + this.#itemsInFlight) / concurrencyMax);
    return Math.min(backlogPerBatch, Math.max(BACKLOG_MIN, fairShare));
  }

  /** Takes the first items whose lock keys are free, and leaves those behind a blocked item. */
  #takeBatch(): Waiting<I, O>[] {
    const batch: Waiting<I, O>[] = [];
    const remaining: Waiting<I, O>[] = [];
    const passedOver = new Set<string>();
    const now = monotonicMs();
    for (const waiting of this.#queue) {
      const { lockKeys } = waiting;
      if (batch.length === this.#options.batchMax) remaining.push(waiting);
      else if (lockKeys.some((key) => this.#heldLockKeys.has(key) || passedOver.has(key))) {
        for (const lockKey of lockKeys) passedOver.add(lockKey);
        remaining.push(waiting);
      } else if (isLate(waiting, now)) refuseLate(waiting);
      else if (waiting.isConnected()) batch.push(waiting);
      else waiting.reject(new Unavailable('nobody waits for it'));
    }
    this.#queue = remaining;
    return batch;
  }

  async #runBatch(batch: Waiting<I, O>[]): Promise<void> {
    this.#batchesInFlight += 1;
    this.#itemsInFlight += batch.length;
    for (const { lockKeys } of batch) for (const key of lockKeys) this.#heldLockKeys.add(key);
    await this.#settle(batch);
    for (const { lockKeys } of batch) for (const key of lockKeys) this.#heldLockKeys.delete(key);
    this.sizes.observe(batch.length);
    this.#itemsInFlight -= batch.length;
    this.#isBlocked = false;
    const pauseMs = this.#options.pauseMs?.(batch.length) ?? 0;
    if (pauseMs > 0) await delay(pauseMs);
    this.#batchesInFlight -= 1;
    this.#scheduleStart();
  }

  /** After an error each item runs alone, so that a bug with one item fails only that item. */
  async #settle(batch: readonly Waiting<I, O>[]): Promise<void> {
    try {
      const answerByMs = Math.min(...batch.map((waiting) => waiting.answerByMs));
      const results = await this.#options.run(batch.map(({ item }) => item), answerByMs);
      batch.forEach(({ resolve }, index) => resolve(results[index]!));
    } catch (error) {
      if (batch.length === 1 || error instanceof Unavailable) {
        for (const { reject } of batch) reject(error);
        return;
      }
      for (const waiting of batch) await this.#settle([waiting]);
    }
  }

  #startTimer(): NodeJS.Timeout {
    return setTimeout(() => {
      this.#timer = null;
      const now = monotonicMs();
      this.#queue = this.#queue.filter((waiting) => {
        waiting.ticks += 1;
        if (!isLate(waiting, now)) return true;
        refuseLate(waiting);
        // Items behind this one may be free to start now.
        this.#isBlocked = false;
        return false;
      });
      this.#startBatches();
      if (this.#queue.length > 0) this.#timer = this.#startTimer();
    }, TICK_MS);
  }
}

function isLate({ answerByMs }: Pick<Waiting<unknown, never>, 'answerByMs'>, now: number): boolean {
  return answerByMs - now < WORK_MIN_MS;
}

function refuseLate({ reject }: Pick<Waiting<unknown, never>, 'reject'>): void {
  reject(new Unavailable('waited too long for its turn'));
}
