/**
 * Sends messages: right after the commit that stored them, outside every lock, until a channel has
 * accepted each or its code has expired.
 */
import type { Hex } from '../../db/hex.ts';
import { Unavailable } from '../../db/unavailable.ts';
import type { Channel, ChannelName } from '../channel.ts';
import type { NoteDelivery } from './note.ts';
import { OutboxQueue } from './outbox-queue.ts';
import type { Outbox } from './outbox.ts';
import type { Parcel } from './parcel.ts';
import { Sender } from './sender.ts';

/** Attempts that may be under way: a provider that takes a second still takes 256 a second. */
const SENDS_MAX = 256;

/** Messages in memory; what is beyond stays in the database, for whoever has room. */
const HELD_MAX = 10_000;

/** Sends the messages of this process. */
export class Courier {
  readonly #sender: Sender;
  readonly #outbox: Outbox;
  readonly #note: NoteDelivery;
  readonly #queue: OutboxQueue;
  /** All messages that are neither erased nor left to others. */
  readonly #held = new Map<Hex, Parcel>();
  readonly #sending = new Set<Parcel>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #ready: Parcel[] = [];
  #isStopping = false;
  #onProgress: () => void = () => {};

  /** @param channels in the order in which they are tried */
  constructor(channels: readonly Channel[], outbox: Outbox, note: NoteDelivery) {
    this.#sender = new Sender(channels, note);
    this.#outbox = outbox;
    this.#note = note;
    this.#queue = new OutboxQueue(outbox);
  }

  /** How many messages are on their way. */
  get held(): number {
    return this.#held.size;
  }

  /** How many more may be handed in. */
  get room(): number {
    return this.#isStopping ? 0 : HELD_MAX - this.#held.size;
  }

  /** The message of a code, while this process has it. */
  parcelOf(otpId: Hex): Parcel | undefined {
    return this.#held.get(otpId);
  }

  /** Sends a message, or leaves it to others when there is no room. */
  dispatch(parcel: Parcel): void {
    if (this.#held.size >= HELD_MAX) return;
    this.#held.set(parcel.message.otpId, parcel);
    if (this.#isStopping) return;
    this.#ready.push(parcel);
    this.#pump();
  }

  /** Closes the code of a message that cannot be read, so that nobody can send it. */
  async giveUp(otpId: Hex): Promise<void> {
    await this.#queue.fail({ otpId, address: null });
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
    await this.#settle(timeoutMs);
    this.#sender.close();
    // An attempt that is under way still may succeed: its lease stays. So does what was accepted.
    const left = [...this.#held.values()].filter((parcel) =>
      !parcel.isAccepted && !this.#sending.has(parcel));
    if (left.length === 0) return;
    await this.#outbox.release(left.map(({ message }) => message.otpId)).catch(() => {});
  }

  #settle(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#onProgress = () => {
        if (this.#sending.size > 0 || this.#queue.isBusy) return;
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
      this.#putOff(parcel);
    }
  }

  async #attempt(parcel: Parcel): Promise<void> {
    for (;;) {
      if (!this.#sender.hasChannelFor(parcel)) return this.#fail(parcel, 'refused');
      if (parcel.isExpired) return this.#fail(parcel, 'expired');
      const channel = this.#sender.pick(parcel);
      if (channel === null) return this.#putOff(parcel);
      if (parcel.mustBeRenewed) {
        if (await this.#queue.renew(parcel)) continue;
        this.#held.delete(parcel.message.otpId);
        return;
      }
      const verdict = await this.#sender.send(parcel, channel);
      if (verdict === 'accepted') return void this.#mark(parcel, channel.name);
      if (verdict === 'retry') return this.#putOff(parcel);
    }
  }

  /** Erases what was accepted, and does not give up: until it is erased it may be sent again. */
  async #mark(parcel: Parcel, name: ChannelName): Promise<void> {
    const { otpId, userId } = parcel.message;
    parcel.isAccepted = true;
    const accepted = { otpId, userId, channel: name, isOther: name !== parcel.planned };
    try {
      await this.#queue.markAccepted(accepted);
      this.#held.delete(otpId);
    } catch (error) {
      if (!(error instanceof Unavailable)) this.#note({ event: 'delivery_fault', error });
      this.#later(parcel.putOff(), () => { void this.#mark(parcel, name); });
    }
    this.#onProgress();
  }

  async #fail(parcel: Parcel, reason: 'refused' | 'expired'): Promise<void> {
    const { address, message: { otpId } } = parcel;
    const isClosed = await this.#queue.fail({ otpId, address });
    this.#held.delete(otpId);
    if (isClosed) this.#note({ event: 'delivery_failed', otpId, reason });
  }

  #putOff(parcel: Parcel): void {
    this.#later(parcel.putOff(), () => {
      this.#ready.push(parcel);
      this.#pump();
    });
  }

  #later(delayMs: number, action: () => void): void {
    if (this.#isStopping) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      action();
    }, delayMs);
    this.#timers.add(timer.unref());
  }
}
