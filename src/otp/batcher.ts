/**
 * Collects what arrives while work is under way, and hands it on as one list: the cost of a
 * transaction is per statement and per commit, so under load the cost of a request falls. A lone
 * request waits for nothing.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Unavailable } from '../db/errors.ts';
import { Histogram } from '../metrics/families.ts';

/** How much a collector takes on. All counts are at least 1. */
export type BatchLimits = Readonly<{
  /** How many lists may be under way at once. */
  concurrencyMax: number;
  /** How many items a list may have. */
  batchMax: number;
  /**
   * How many must wait before another lane opens: lists must be large before lanes are many. While
   * few items are about, a fair share of them is enough.
   */
  backlogPerBatch: number;
  /** How many may wait at all. */
  waitingMax: number;
}>;

/** How a collector works. */
export type BatcherOptions<I, O> = BatchLimits & Readonly<{
  /** Does the work of a list; one result for each item, in order. */
  run: (items: readonly I[]) => Promise<readonly O[]>;
  /**
   * What an item will lock. No two lists that are under way share a subject, so that they never
   * wait for each other's locks; items of one subject keep their order.
   */
  lockKeysOf: (item: I) => readonly string[];
  /** How long a lane rests after a list of so many, in milliseconds. Not at all without. */
  pauseMs?: (size: number) => number;
}>;

type Waiting<I, O> = {
  readonly item: I;
  readonly lockKeys: readonly string[];
  readonly isConnected: () => boolean;
  readonly resolve: (result: O) => void;
  readonly reject: (error: unknown) => void;
  ticks: number;
};

/** Waiting is measured in ticks of one timer, which runs only while somebody waits. */
const TICK_MS = 250;

/** A second lane for a single item would cost a transaction of its own. */
const BACKLOG_MIN = 2;

/** Leaves time for a transaction within the 3 s of a 503. */
const WAIT_TICKS_MAX = 3;

/** From a lone item to the largest batch, that of refusals. */
const SIZE_BOUNDS: readonly number[] = Object.freeze([1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);

/** Collects items into lists. One for each kind of work in a process. */
export class Batcher<I, O> {
  /** The sizes of the batches so far. */
  readonly sizes = new Histogram(SIZE_BOUNDS);
  readonly #options: BatcherOptions<I, O>;
  readonly #heldLockKeys = new Set<string>();
  #queue: Waiting<I, O>[] = [];
  #batchesInFlight = 0;
  #itemsInFlight = 0;
  #isStartDue = false;
  /** All that waits shares a subject with what is under way, or comes after one that does. */
  #isBlocked = false;
  #timer: NodeJS.Timeout | null = null;

  constructor(options: BatcherOptions<I, O>) {
    this.#options = options;
  }

  get waiting(): number {
    return this.#queue.length;
  }

  /** True while a list is under way, or somebody waits. */
  get isBusy(): boolean {
    return this.#batchesInFlight > 0 || this.#queue.length > 0;
  }

  /**
   * Hands an item in.
   *
   * @param isConnected asked once, before the item's list starts: false when nobody waits for the
   *   result any more, and the item costs nothing
   * @returns its result
   * @throws Unavailable when too many wait, or it waited too long and nothing happened or will
   *   happen for it; otherwise what the work of this item alone threw
   */
  submit(item: I, isConnected: () => boolean = () => true): Promise<O> {
    if (this.#queue.length >= this.#options.waitingMax) {
      return Promise.reject(new Unavailable('too many requests wait'));
    }
    return new Promise((resolve, reject) => {
      const lockKeys = this.#options.lockKeysOf(item);
      this.#queue.push({ item, lockKeys, isConnected, resolve, reject, ticks: 0 });
      if (!lockKeys.some((lockKey) => this.#heldLockKeys.has(lockKey))) this.#isBlocked = false;
      this.#scheduleStart();
    });
  }

  /** After the sockets that are readable now were read: what comes together goes together. */
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
    // A list that takes so long may be stuck, and is nobody's affair but its own.
    const isLate = (this.#queue[0]?.ticks ?? 0) > 0;
    if (this.#batchesInFlight === 0 || isLate) return 1;
    const { concurrencyMax, backlogPerBatch } = this.#options;
    const fairShare = Math.ceil((this.#queue.length + this.#itemsInFlight) / concurrencyMax);
    return Math.min(backlogPerBatch, Math.max(BACKLOG_MIN, fairShare));
  }

  /** The first that wait, leaving those whose subjects are under way, and who came after them. */
  #takeBatch(): Waiting<I, O>[] {
    const batch: Waiting<I, O>[] = [];
    const remaining: Waiting<I, O>[] = [];
    const passedOver = new Set<string>();
    for (const waiting of this.#queue) {
      const { lockKeys } = waiting;
      if (batch.length === this.#options.batchMax) remaining.push(waiting);
      else if (lockKeys.some((lockKey) => this.#heldLockKeys.has(lockKey) || passedOver.has(lockKey))) {
        for (const lockKey of lockKeys) passedOver.add(lockKey);
        remaining.push(waiting);
      } else if (waiting.isConnected()) batch.push(waiting);
      else waiting.reject(new Unavailable('nobody waits for it'));
    }
    this.#queue = remaining;
    return batch;
  }

  async #runBatch(batch: Waiting<I, O>[]): Promise<void> {
    this.#batchesInFlight += 1;
    this.#itemsInFlight += batch.length;
    this.sizes.observe(batch.length);
    for (const { lockKeys } of batch) for (const lockKey of lockKeys) this.#heldLockKeys.add(lockKey);
    await this.#settle(batch);
    for (const { lockKeys } of batch) for (const lockKey of lockKeys) this.#heldLockKeys.delete(lockKey);
    this.#itemsInFlight -= batch.length;
    this.#isBlocked = false;
    const pauseMs = this.#options.pauseMs?.(batch.length) ?? 0;
    if (pauseMs > 0) await delay(pauseMs);
    this.#batchesInFlight -= 1;
    this.#scheduleStart();
  }

  /** One member's failure never fails its neighbours: after a fault each is run by itself. */
  async #settle(batch: readonly Waiting<I, O>[]): Promise<void> {
    try {
      const results = await this.#options.run(batch.map(({ item }) => item));
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
      this.#queue = this.#queue.filter((waiting) => {
        waiting.ticks += 1;
        if (waiting.ticks <= WAIT_TICKS_MAX) return true;
        waiting.reject(new Unavailable('waited too long for its turn'));
        // Others may have waited behind it.
        this.#isBlocked = false;
        return false;
      });
      this.#startBatches();
      if (this.#queue.length > 0) this.#timer = this.#startTimer();
    }, TICK_MS);
  }
}
