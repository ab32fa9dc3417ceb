/**
 * Sends messages: right after the commit that stored them, outside every lock, until a channel has
 * accepted each or its code has expired.
 */
import { Sender } from './channel-picker.ts';
import type { Channel } from '../channels/channel.ts';
import { Unavailable } from '../../db/errors.ts';
import type { Hex } from '../../db/query.ts';
import type { NoteDelivery } from './events.ts';
import type { DeliveryCounts } from './metrics.ts';
import type { Bundle } from './outbox-batch.ts';
import { BundleSaver } from './outbox-writer.ts';
import { OutboxQueue } from './outbox.ts';
import type { Outbox, Rerouted } from './outbox.ts';
import { Parcel } from './pending-message.ts';

/** Attempts that may be under way: a provider that takes a second still takes 256 a second. */
const SENDS_MAX = 256;

/** Messages in memory; what is beyond stays in the database, for whoever has room. */
const HELD_MAX = 10_000;

/** Sends the messages of this process. */
export class Courier {
  readonly #sender: Sender;
  readonly #outbox: Outbox;
  readonly #note: NoteDelivery;
  readonly #counts: DeliveryCounts;
  readonly #queue: OutboxQueue;
  readonly #saver: BundleSaver;
  /** All bundles that are neither erased nor left to others. */
  readonly #bundles = new Map<Hex, Bundle>();
  readonly #sending = new Set<Parcel>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #ready: Parcel[] = [];
  #held = 0;
  #isStopping = false;
  #onProgress: () => void = () => {};

  /** @param channels in the order in which they are tried */
  constructor(channels: readonly Channel[], outbox: Outbox, note: NoteDelivery,
    counts: DeliveryCounts) {
    this.#sender = new Sender(channels, note, counts);
    this.#counts = counts;
    this.#outbox = outbox;
    this.#note = note;
    this.#queue = new OutboxQueue(outbox);
    this.#saver = new BundleSaver({
      outbox,
      note,
      onSaved: (erased) => {
        for (const { bundleId } of erased) this.#bundles.delete(bundleId);
        this.#onProgress();
      },
    });
  }

  /** What the transactions of others may erase. */
  get erasures(): Pick<BundleSaver, 'takeErasure'> {
    return this.#saver;
  }

  /** How many messages are on their way. */
  get held(): number {
    return this.#held;
  }

  /** How many more may be handed in. */
  get room(): number {
    return this.#isStopping ? 0 : HELD_MAX - this.#held;
  }

  /** A bundle that this process has. */
  bundleOf(bundleId: Hex): Bundle | undefined {
    return this.#bundles.get(bundleId);
  }

  /**
   * Sends the messages of a bundle, or leaves it to others when there is no room.
   *
   * @param isInDoubt whether codes may have come to an end: they were not committed just now
   */
  dispatch(bundle: Bundle, isInDoubt: boolean): void {
    if (this.#held + bundle.size > HELD_MAX) return;
    this.#held += bundle.size;
    this.#bundles.set(bundle.bundleId, bundle);
    if (this.#isStopping) return;
    for (const one of bundle.open) this.#ready.push(new Parcel(one, bundle, isInDoubt));
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
    this.#sender.close();
    // An attempt that is under way still may succeed: the lease of its bundle stays.
    for (const { bundle } of this.#sending) this.#bundles.delete(bundle.bundleId);
    const left = [...this.#bundles.keys()];
    if (left.length > 0) await this.#outbox.release(left).catch(() => {});
  }

  #quiet(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#onProgress = () => {
        if (this.#sending.size > 0 || this.#saver.isBusy) return;
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
      void this.#carry(parcel).then(() => {
        this.#sending.delete(parcel);
        this.#pump();
        this.#onProgress();
      });
    }
    if (started > 0) this.#ready.splice(0, started);
  }

  /** Brings a message as far as it goes now. Never rejects. */
  async #carry(parcel: Parcel): Promise<void> {
    try {
      await this.#attempt(parcel);
    } catch (error) {
      if (!(error instanceof Unavailable)) this.#note({ event: 'delivery_fault', error });
      this.#later(parcel, parcel.putOff());
    }
  }

  async #attempt(parcel: Parcel): Promise<void> {
    for (;;) {
      if (!this.#sender.hasChannelFor(parcel)) return this.#fail(parcel, 'refused');
      if (parcel.isExpired) return this.#fail(parcel, 'expired');
      const channel = this.#sender.pick(parcel);
      if (channel === null) {
        return this.#later(parcel, parcel.putOffFor(this.#sender.readyInMs(parcel)));
      }
      if (parcel.mustBeRenewed) {
        const renewal = await this.#queue.renew(parcel);
        if (renewal === 'lost') return this.#drop(parcel.bundle);
        if (renewal === 'ended') return this.#settle(parcel);
        continue;
      }
      const verdict = await this.#sender.send(parcel, channel);
      if (verdict === 'accepted') {
        const { planned, message: { otpId, userId } } = parcel;
        const { name } = channel;
        return this.#settle(parcel, name === planned ? null : { otpId, userId, channel: name });
      }
      if (verdict === 'retry') return this.#later(parcel, parcel.putOff());
    }
  }

  async #fail(parcel: Parcel, reason: 'refused' | 'expired'): Promise<void> {
    const { address, bundle: { bundleId }, message: { otpId, userId } } = parcel;
    const isClosed = await this.#queue.fail({ otpId, bundleId, address });
    if (!isClosed) return this.#drop(parcel.bundle);
    this.#settle(parcel);
    this.#counts.failed[reason] += 1;
    this.#note({ event: 'delivery_failed', otpId, userId, reason });
  }

  /** Its message was accepted, or has come to another end. */
  #settle(parcel: Parcel, rerouted: Rerouted | null = null): void {
    if (this.#bundles.has(parcel.bundle.bundleId)) this.#held -= 1;
    this.#saver.settle(parcel, rerouted);
  }

  /** Another process has taken it over. */
  #drop({ bundleId, size }: Bundle): void {
    if (this.#bundles.delete(bundleId)) this.#held -= size;
  }

  #later(parcel: Parcel, delayMs: number): void {
    if (this.#isStopping) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#ready.push(parcel);
      this.#pump();
    }, delayMs);
    this.#timers.add(timer.unref());
  }
}
