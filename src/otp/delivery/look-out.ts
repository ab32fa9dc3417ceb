/** Takes over the messages that processes have left which died, stopped or had no room for them. */
import { randomInt } from 'node:crypto';
import type { SealedMessage } from '../../db/outbox.ts';
import { Unavailable } from '../../db/unavailable.ts';
import { openMessage } from '../seal.ts';
import type { Secrets } from '../secrets.ts';
import type { Courier } from './courier.ts';
import type { NoteDelivery } from './note.ts';
import type { Outbox } from './outbox.ts';
import { Parcel } from './parcel.ts';
import type { ParcelLease } from './parcel.ts';

/** One question to a table that is nearly always empty; codes live for minutes. */
const LOOK_MS = 4000;
/** So that many processes do not look at the same time. */
const LOOK_SPREAD_MS = 2000;

const LIST_MAX = 500;

/** What it needs. */
export type LookOutParts = Readonly<{
  outbox: Outbox;
  courier: Courier;
  secrets: Secrets;
  note: NoteDelivery;
}>;

/** Looks at the start, and again every few seconds until it is stopped. */
export class LookOut {
  readonly #parts: LookOutParts;
  #timer: NodeJS.Timeout | null = null;
  #isStopped = false;

  constructor(parts: LookOutParts) {
    this.#parts = parts;
  }

  /** Begins. */
  start(): void {
    void this.#look();
  }

  /** Ends; a look that is under way still ends by itself. */
  stop(): void {
    this.#isStopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  async #look(): Promise<void> {
    try {
      while (!this.#isStopped && (await this.#takeOver())) { /* there may be more */ }
    } catch (error) {
      if (!(error instanceof Unavailable)) this.#parts.note({ event: 'delivery_fault', error });
    }
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => void this.#look(), LOOK_MS + randomInt(LOOK_SPREAD_MS));
    this.#timer.unref();
  }

  /** True when it took over as many as it could at once. */
  async #takeOver(): Promise<boolean> {
    const { outbox, courier, note } = this.#parts;
    const max = Math.min(LIST_MAX, courier.room);
    if (max <= 0) return false;
    const { messages, lease } = await outbox.takeOver(max);
    let count = 0;
    for (const message of messages) {
      const own = courier.parcelOf(message.otpId);
      // This process was too busy, or stopped for too long, to renew it.
      if (own !== undefined) own.renew(lease);
      else {
        await this.#take(message, lease);
        count += 1;
      }
    }
    if (count > 0) note({ event: 'delivery_taken_over', count });
    return count > 0 && messages.length === max;
  }

  async #take(sealed: SealedMessage, lease: ParcelLease): Promise<void> {
    const { courier, secrets, note } = this.#parts;
    const { otpId, keyId, expiresAt } = sealed;
    const secret = secrets.byId.get(keyId);
    const contents = secret === undefined ? null : openMessage(secret, otpId, sealed.sealed);
    if (contents === null) {
      note({ event: 'delivery_unreadable', otpId });
      return courier.giveUp(otpId);
    }
    const { address, ...message } = contents;
    // Which channel its code's row names is not known here: none, so that it is written anew.
    courier.dispatch(new Parcel({ otpId, expiresAt, ...message }, address, '', lease));
  }
}
