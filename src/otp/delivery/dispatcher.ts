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
import type { Outbox, Rerouted } from './outbox.ts';
import { PendingMessage } from './pending-message.ts';

/** Attempts that may be under way: a provider that takes a second still takes 256 a second. */
const SENDS_MAX = 256;

/** Messages in memory; what is beyond stays in the database, for whoever has room. */
const PENDING_MAX = 10_000;

/** Sends the messages of this process. */
export class Dispatcher {
  readonly #channels: ChannelPicker;
  readonly #outbox: Outbox;
  readonly #emit: OnDeliveryEvent;
  readonly #counts: DeliveryCounts;
  readonly #writer: OutboxWriter;
  /** All bundles that are neither erased nor left to others. */
  readonly #batches = new Map<Hex, OutboxBatch>();
  readonly #sending = new Set<PendingMessage>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #ready: PendingMessage[] = [];
  #isStopping = false;
  #onProgress: () => void = () => {};

  /** @param channels in the order in which they are tried */
  constructor(channels: readonly Channel[], outbox: Outbox, onEvent: OnDeliveryEvent,
    counts: DeliveryCounts) {
    this.#channels = new ChannelPicker(channels, onEvent, counts);
    this.#counts = counts;
    this.#outbox = outbox;
    this.#emit = onEvent;
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
  get erasures(): Pick<OutboxWriter, 'takeErasure'> {
    return this.#writer;
  }

  /** How many more may be handed in. */
  get room(): number {
    return this.#isStopping ? 0 : PENDING_MAX - this.#counts.pending;
  }

  /** A bundle that this process has. */
  batchOf(bundleId: Hex): OutboxBatch | undefined {
    return this.#batches.get(bundleId);
  }

  /**
   * Sends the messages of a bundle, or leaves it to others when there is no room.
   *
   * @param isInDoubt whether codes may have come to an end: they were not committed just now
   */
  dispatch(bundle: OutboxBatch, isInDoubt: boolean): void {
    if (this.#counts.pending + bundle.size > PENDING_MAX) return;
    this.#counts.pending += bundle.size;
    this.#batches.set(bundle.batchId, bundle);
    if (this.#isStopping) return;
    for (const one of bundle.open) this.#ready.push(new PendingMessage(one, bundle, isInDoubt));
    this.#pump();
  }

  /**
   * Ends the attempts that are under way, within a bound, and lets other processes take over what
   * is left. Never throws: when the database is away they do so once the leases are over.
   */
  async stop(timeoutMs: number): Promise<void> {
    this.#isStopping = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#ready = [];
    // What was committed a moment ago is handed in during this turn.
    await new Promise((resolve) => { setImmediate(resolve); });
    await this.#quiet(timeoutMs);
    this.#channels.close();
    // An attempt that is under way still may succeed: the lease of its bundle stays.
    for (const { batch } of this.#sending) this.#batches.delete(batch.batchId);
    const left = [...this.#batches.keys()];
    if (left.length > 0) await this.#outbox.release(left).catch(() => {});
  }

  #quiet(timeoutMs: number): Promise<void> {
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

  #pump(): void {
    let started = 0;
    while (this.#sending.size < SENDS_MAX && started < this.#ready.length) {
      const parcel = this.#ready[started]!;
      started += 1;
      this.#sending.add(parcel);
      void this.#deliver(parcel).then(() => {
        this.#sending.delete(parcel);
        this.#pump();
        this.#onProgress();
      });
    }
    if (started > 0) this.#ready.splice(0, started);
  }

  /** Brings a message as far as it goes now. Never rejects. */
  async #deliver(parcel: PendingMessage): Promise<void> {
    try {
      await this.#attempt(parcel);
    } catch (error) {
      if (!(error instanceof Unavailable)) this.#emit({ event: 'delivery_fault', error });
      this.#later(parcel, parcel.putOff());
    }
  }

  async #attempt(parcel: PendingMessage): Promise<void> {
    for (;;) {
      if (!this.#channels.hasChannelFor(parcel)) return this.#fail(parcel, 'refused');
      if (parcel.isExpired) return this.#fail(parcel, 'expired');
      const channel = this.#channels.pick(parcel);
      if (channel === null) {
        return this.#later(parcel, parcel.putOffFor(this.#channels.readyInMs(parcel)));
      }
      if (parcel.mustBeRenewed) {
        const renewal = await this.#outbox.renew(parcel);
        if (renewal === 'lost') return this.#drop(parcel.batch);
        if (renewal === 'ended') return this.#settle(parcel);
        continue;
      }
      const verdict = await this.#channels.send(parcel, channel);
      if (verdict === 'accepted') {
        const { planned, message: { otpId, userId } } = parcel;
        const { name } = channel;
        return this.#settle(parcel, name === planned ? null : { otpId, userId, channel: name });
      }
      if (verdict === 'retry') return this.#later(parcel, parcel.putOff());
    }
  }

  async #fail(parcel: PendingMessage, reason: 'refused' | 'expired'): Promise<void> {
    const { clientIp, batch: { batchId }, message: { otpId, userId } } = parcel;
    const isClosed = await this.#outbox.fail({ otpId, batchId, clientIp });
    if (!isClosed) return this.#drop(parcel.batch);
    this.#settle(parcel);
    this.#counts.failed[reason] += 1;
    this.#emit({ event: 'delivery_failed', otpId, userId, reason });
  }

  /** Its message was accepted, or has come to another end. */
  #settle(parcel: PendingMessage, rerouted: Rerouted | null = null): void {
    if (this.#batches.has(parcel.batch.batchId)) this.#counts.pending -= 1;
    this.#writer.settle(parcel, rerouted);
  }

  /** Another process has taken it over. */
  #drop({ batchId, size }: OutboxBatch): void {
    if (this.#batches.delete(batchId)) this.#counts.pending -= size;
  }

  #later(parcel: PendingMessage, delayMs: number): void {
    if (this.#isStopping) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#ready.push(parcel);
      this.#pump();
    }, delayMs);
    this.#timers.add(timer.unref());
  }
}
