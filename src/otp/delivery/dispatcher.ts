/**
 * Sends the messages of this process: immediately after the commit that stored them, without
 * holding a lock, until a channel accepts each message or its OTP expires.
 */
import { ChannelPicker } from './channel-picker.ts';
import type { PickerDeps } from './channel-picker.ts';
import type { Channel } from '../channels/channel.ts';
import { Unavailable } from '../../db/errors.ts';
import { MICROSECONDS_PER_SECOND } from '../../db/instant.ts';
import type { Hex } from '../../db/query.ts';
import type { Rider } from '../../db/transaction.ts';
import type { OnDeliveryEvent } from './events.ts';
import type { DeliveryCounts } from './events.ts';
import type { OutboxBatch } from './outbox-batch.ts';
import { OutboxWriter } from './outbox-writer.ts';
import type { Outbox, Rerouted } from './outbox.ts';
import { backoffMs, PendingMessage } from './pending-message.ts';

/** Attempts in flight: a provider that needs a second for each gets 256 messages per second. */
const SENDS_MAX = 256;

/**
 * Bounds the memory. The excess stays in the database until a process with capacity reclaims it.
 */
const PENDING_MAX = 10_000;

type DispatcherDeps = PickerDeps & Readonly<{ outbox: Outbox }>;

export class Dispatcher {
  readonly #picker: ChannelPicker;
  readonly #outbox: Outbox;
  readonly #onEvent: OnDeliveryEvent;
  readonly #counts: DeliveryCounts;
  readonly #writer: OutboxWriter;
  /** The outbox batches that this process owns and that are not erased yet. */
  readonly #batches = new Map<Hex, OutboxBatch>();
  readonly #sending = new Set<PendingMessage>();
  readonly #retryTimers = new Set<NodeJS.Timeout>();
  #ready: PendingMessage[] = [];
  #isStopping = false;
  #onProgress: () => void = () => {};

  constructor(deps: DispatcherDeps) {
    const { outbox, onEvent, counts } = deps;
    this.#picker = new ChannelPicker(deps);
    this.#counts = counts;
    counts.oldestSeconds = () => Math.max(0, ...batchAges(this.#batches.values()));
    this.#outbox = outbox;
    this.#onEvent = onEvent;
    this.#writer = new OutboxWriter({
      outbox,
      onEvent,
      onSaved: (erased) => {
        for (const { batchId } of erased) this.#batches.delete(batchId);
        this.#onProgress();
      },
    });
  }

  /** Erases sent batches in the transaction of some requests. */
  createEraser(requests: number): Rider {
    return this.#writer.createEraser(requests);
  }

  /** How many more messages `dispatch` takes. */
  get capacity(): number {
    return this.#isStopping ? 0 : PENDING_MAX - this.#counts.pending;
  }

  findBatch(batchId: Hex): OutboxBatch | undefined {
    return this.#batches.get(batchId);
  }

  /**
   * Sends the messages of a batch. Without capacity the batch stays in the outbox, to be reclaimed.
   * @param mustAsk whether the batch may not be in the outbox, or its OTPs closed since
   */
  dispatch(batch: OutboxBatch, mustAsk: boolean): void {
    if (this.#counts.pending + batch.size > PENDING_MAX) return;
    this.#counts.pending += batch.size;
    this.#batches.set(batch.batchId, batch);
    if (this.#isStopping) return;
    for (const message of batch.messages) {
      this.#ready.push(new PendingMessage(message, batch, mustAsk));
    }
    this.#startSends();
  }

  /**
   * Waits for attempts in flight, at most `timeoutMs`, and releases the leases of the other
   * batches, so that another process can reclaim them immediately. Never throws: without the
   * database they are reclaimed when the leases expire.
   */
  async stop(timeoutMs: number): Promise<void> {
    this.#isStopping = true;
    for (const timer of this.#retryTimers) clearTimeout(timer);
    this.#ready = [];
    // A transaction that has just committed dispatches its messages in this turn of the event loop.
    await new Promise((resolve) => { setImmediate(resolve); });
    await this.#whenIdle(timeoutMs);
    this.#picker.close();
    // An attempt in flight may still succeed, so its batch keeps the lease.
    for (const { batch } of this.#sending) this.#batches.delete(batch.batchId);
    const unsent = [...this.#batches.keys()];
    if (unsent.length > 0) await this.#outbox.release(unsent).catch(() => {});
  }

  #whenIdle(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#onProgress = () => {
        if (this.#sending.size > 0 || this.#writer.isBusy) return;
        clearTimeout(timer);
        resolve();
      };
      this.#onProgress();
    });
  }

  #startSends(): void {
    let started = 0;
    while (this.#sending.size < SENDS_MAX && started < this.#ready.length) {
      const pending = this.#ready[started]!;
      started += 1;
      this.#sending.add(pending);
      void this.#deliver(pending).then(() => {
        this.#sending.delete(pending);
        this.#startSends();
        this.#onProgress();
      });
    }
    if (started > 0) this.#ready.splice(0, started);
  }

  async #deliver(pending: PendingMessage): Promise<void> {
    try {
      await this.#tryChannels(pending);
    } catch (error) {
      // Does not grow: a client that repeats its request when the database is back may be waiting
      // for the message.
      if (error instanceof Unavailable) return this.#retryIn(pending, backoffMs(0));
      this.#onEvent({ event: 'delivery_fault', error });
      this.#retryIn(pending, pending.backOff());
    }
  }

  async #tryChannels(pending: PendingMessage): Promise<void> {
    for (;;) {
      if (!this.#picker.hasChannelFor(pending)) return this.#fail(pending, 'refused');
      if (pending.isExpired) return this.#fail(pending, 'expired');
      const { waitLeftMs } = pending;
      const channel = waitLeftMs > 0 ? null : this.#picker.pick(pending);
      // A message that is sent after its first wait costs no statement for a reason.
      if (channel === null && pending.mustRenew) this.#picker.explainWait(pending);
      if (channel === null && pending.newFailure === null && pending.batch.leaseCoversAttempt) {
        // A wait for a channel is not an attempt, so it does not increase the backoff.
        return this.#retryIn(pending, waitLeftMs > 0 ? waitLeftMs
          : this.#picker.readyInMs(pending) + backoffMs(0));
      }
      if (channel === null || pending.mustRenew) {
        const renewal = await this.#outbox.renew(pending);
        if (renewal === 'lost') return this.#onLeaseLost(pending.batch);
        if (renewal === 'ended') return this.#settle(pending);
        continue;
      }
      const result = await this.#picker.send(pending, channel);
      if (result === 'accepted') return this.#settle(pending, toRerouted(channel, pending));
      const mustWait = result === 'retry'
        || (result === 'denied' && !this.#picker.hasUndenied(pending));
      if (mustWait) return this.#retryIn(pending, pending.backOff());
    }
  }

  async #fail(pending: PendingMessage, reason: 'refused' | 'expired'): Promise<void> {
    const { stored: { subjects }, batch: { batchId }, message: { otpId, userId } } = pending;
    const failure = pending.failure ?? { channel: null, reason };
    const isClosed = await this.#outbox.fail({ otpId, userId, batchId, subjects, failure });
    if (!isClosed) return this.#onLeaseLost(pending.batch);
    this.#settle(pending);
    this.#counts.failed[reason] += 1;
    this.#onEvent({ event: 'delivery_failed', otpId, userId, reason });
  }

  #settle(pending: PendingMessage, rerouted: Rerouted | null = null): void {
    if (this.#batches.has(pending.batch.batchId)) this.#counts.pending -= 1;
    this.#writer.settle(pending, rerouted);
  }

  #onLeaseLost({ batchId, size }: OutboxBatch): void {
    if (this.#batches.delete(batchId)) this.#counts.pending -= size;
  }

  #retryIn(pending: PendingMessage, delayMs: number): void {
    if (this.#isStopping) return;
    const timer = setTimeout(() => {
      this.#retryTimers.delete(timer);
      this.#ready.push(pending);
      this.#startSends();
    }, pending.beginWait(delayMs));
    this.#retryTimers.add(timer.unref());
  }
}

/** The seconds since each batch with a message was stored. Its messages have one commit. */
function* batchAges(batches: Iterable<OutboxBatch>): Iterable<number> {
  for (const batch of batches) {
    const [first] = batch.messages;
    if (first === undefined) continue;
    const { expiresAt, lifetimeSeconds } = first.message;
    yield (batch.now() - expiresAt) / MICROSECONDS_PER_SECOND + lifetimeSeconds;
  }
}

/** What to store in the OTP row; null when the row already says it. */
function toRerouted({ name }: Channel, pending: PendingMessage): Rerouted | null {
  const { stored: { plannedChannel }, newFailure: failure, message: { otpId, userId } } = pending;
  if (name === plannedChannel && failure === null) return null;
  return { otpId, userId, plannedChannel, channel: name, failure };
}
