/**
 * Sends messages: right after the commit that stored them, outside every lock, until a channel has
 * accepted each or its code has expired.
 */
import { ChannelPicker } from './channel-picker.ts';
import type { Channel } from '../channels/channel.ts';
import { Unavailable } from '../../db/errors.ts';
import type { Hex } from '../../db/query.ts';
import type { OnDeliveryEvent } from './events.ts';
import type { DeliveryCounts } from './metrics.ts';
import type { OutboxBatch } from './outbox-batch.ts';
import { OutboxWriter } from './outbox-writer.ts';
import type { Erasure } from './outbox-writer.ts';
import type { Outbox, Rerouted } from './outbox.ts';
import { PendingMessage } from './pending-message.ts';

/** Attempts that may be under way: a provider that takes a second still takes 256 a second. */
const SENDS_MAX = 256;

/** Messages in memory; what is beyond stays in the database, for whoever has capacity. */
const PENDING_MAX = 10_000;

type DispatcherDeps = Readonly<{
  /** In the order in which they are tried. */
  channels: readonly Channel[];
  outbox: Outbox;
  onEvent: OnDeliveryEvent;
  counts: DeliveryCounts;
}>;

/** Sends the messages of this process. */
export class Dispatcher {
  readonly #picker: ChannelPicker;
  readonly #outbox: Outbox;
  readonly #onEvent: OnDeliveryEvent;
  readonly #counts: DeliveryCounts;
  readonly #writer: OutboxWriter;
  /** All bundles that are neither erased nor unsent to others. */
  readonly #batches = new Map<Hex, OutboxBatch>();
  readonly #sending = new Set<PendingMessage>();
  readonly #retryTimers = new Set<NodeJS.Timeout>();
  #ready: PendingMessage[] = [];
  #isStopping = false;
  #onProgress: () => void = () => {};

  constructor({ channels, outbox, onEvent, counts }: DispatcherDeps) {
    this.#picker = new ChannelPicker(channels, onEvent, counts);
    this.#counts = counts;
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

  /** What the transactions of others may erase. */
  takeErasure(requests: number): Erasure | null {
    return this.#writer.takeErasure(requests);
  }

  /** How many more may be handed in. */
  get capacity(): number {
    return this.#isStopping ? 0 : PENDING_MAX - this.#counts.pending;
  }

  /** A batch that this process has. */
  findBatch(batchId: Hex): OutboxBatch | undefined {
    return this.#batches.get(batchId);
  }

  /**
   * Sends the messages of a batch, or leaves it to others when there is no capacity.
   *
   * @param isReclaimed whether codes may have come to an end: they were not committed just now
   */
  dispatch(batch: OutboxBatch, isReclaimed: boolean): void {
    if (this.#counts.pending + batch.size > PENDING_MAX) return;
    this.#counts.pending += batch.size;
    this.#batches.set(batch.batchId, batch);
    if (this.#isStopping) return;
    for (const message of batch.messages) {
      this.#ready.push(new PendingMessage(message, batch, isReclaimed));
    }
    this.#startSends();
  }

  /**
   * Ends the attempts that are under way, within a bound, and lets other processes take over what
   * is unsent. Never throws: when the database is away they do so once the leases are over.
   */
  async stop(timeoutMs: number): Promise<void> {
    this.#isStopping = true;
    for (const timer of this.#retryTimers) clearTimeout(timer);
    this.#ready = [];
    // What was committed a moment ago is handed in during this turn.
    await new Promise((resolve) => { setImmediate(resolve); });
    await this.#whenIdle(timeoutMs);
    this.#picker.close();
    // An attempt that is under way still may succeed: the lease of its batch stays.
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

  /** Brings a message as far as it goes now. Never rejects. */
  async #deliver(pending: PendingMessage): Promise<void> {
    try {
      await this.#tryChannels(pending);
    } catch (error) {
      if (!(error instanceof Unavailable)) this.#onEvent({ event: 'delivery_fault', error });
      this.#retryIn(pending, pending.backOff());
    }
  }

  async #tryChannels(pending: PendingMessage): Promise<void> {
    for (;;) {
      if (!this.#picker.hasChannelFor(pending)) return this.#fail(pending, 'refused');
      if (pending.isExpired) return this.#fail(pending, 'expired');
      const channel = this.#picker.pick(pending);
      if (channel === null) {
        return this.#retryIn(pending, pending.waitForChannel(this.#picker.readyInMs(pending)));
      }
      if (pending.mustRenew) {
        const renewal = await this.#outbox.renew(pending);
        if (renewal === 'lost') return this.#onLeaseLost(pending.batch);
        if (renewal === 'ended') return this.#settle(pending);
        continue;
      }
      const result = await this.#picker.send(pending, channel);
      if (result === 'accepted') return this.#settle(pending, reroutedTo(channel, pending));
      if (result === 'retry') return this.#retryIn(pending, pending.backOff());
    }
  }

  async #fail(pending: PendingMessage, reason: 'refused' | 'expired'): Promise<void> {
    const { clientIp, batch: { batchId }, message: { otpId, userId } } = pending;
    const isClosed = await this.#outbox.fail({ otpId, batchId, clientIp });
    if (!isClosed) return this.#onLeaseLost(pending.batch);
    this.#settle(pending);
    this.#counts.failed[reason] += 1;
    this.#onEvent({ event: 'delivery_failed', otpId, userId, reason });
  }

  /** Its message was accepted, or has come to another end. */
  #settle(pending: PendingMessage, rerouted: Rerouted | null = null): void {
    if (this.#batches.has(pending.batch.batchId)) this.#counts.pending -= 1;
    this.#writer.settle(pending, rerouted);
  }

  /** Another process has taken it over. */
  #onLeaseLost({ batchId, size }: OutboxBatch): void {
    if (this.#batches.delete(batchId)) this.#counts.pending -= size;
  }

  #retryIn(pending: PendingMessage, delayMs: number): void {
    if (this.#isStopping) return;
    const timer = setTimeout(() => {
      this.#retryTimers.delete(timer);
      this.#ready.push(pending);
      this.#startSends();
    }, delayMs);
    this.#retryTimers.add(timer.unref());
  }
}

/** What to store when another channel than the planned message has accepted a message. */
function reroutedTo({ name }: Channel, pending: PendingMessage): Rerouted | null {
  const { plannedChannel, message: { otpId, userId } } = pending;
  return name === plannedChannel ? null : { otpId, userId, channel: name };
}
