/** Takes over the messages that processes have left which died, stopped or had no room for them. */
import { randomInt } from 'node:crypto';
import { openMessages } from '../crypto/sealed-messages.ts';
import type { Secrets } from '../crypto/secrets.ts';
import { Unavailable } from '../../db/errors.ts';
import { BUNDLE_MESSAGES_MAX } from '../../db/tables/outbox.ts';
import type { SealedBundle } from '../../db/tables/outbox.ts';
import type { Courier } from './dispatcher.ts';
import type { NoteDelivery } from './events.ts';
import type { DeliveryCounts } from './metrics.ts';
import { Bundle } from './outbox-batch.ts';
import type { HeldLease } from './outbox-batch.ts';
import type { Outbox } from './outbox.ts';

/** One question to a table that is nearly always empty; codes live for minutes. */
const LOOK_MS = 4000;
/** So that many processes do not look at the same time. */
const LOOK_SPREAD_MS = 2000;

const LIST_MAX = 50;

/** What it needs. */
type LookOutParts = Readonly<{
  outbox: Outbox;
  courier: Courier;
  secrets: Secrets;
  note: NoteDelivery;
  counts: DeliveryCounts;
}>;

/** Looks at the start, and again every few seconds until it is stopped. */
export class LookOut {
  readonly #parts: LookOutParts;
  #timer: NodeJS.Timeout | null = null;
  #isStopped = false;
  #looking: Promise<void> = Promise.resolve();

  constructor(parts: LookOutParts) {
    this.#parts = parts;
  }

  /** Begins. */
  start(): void {
    this.#looking = this.#look();
  }

  /** Ends, once a look that is under way has ended. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#looking;
  }

  async #look(): Promise<void> {
    try {
      while (!this.#isStopped && (await this.#takeOver())) { /* there may be more */ }
    } catch (error) {
      if (!(error instanceof Unavailable)) this.#parts.note({ event: 'delivery_fault', error });
    }
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => this.start(), LOOK_MS + randomInt(LOOK_SPREAD_MS));
    this.#timer.unref();
  }

  /** True when it took over as many as it could at once. */
  async #takeOver(): Promise<boolean> {
    const { outbox, courier, note, counts } = this.#parts;
    const max = Math.min(LIST_MAX, Math.floor(courier.room / BUNDLE_MESSAGES_MAX));
    if (max <= 0) return false;
    const { bundles, lease } = await outbox.takeOver(max);
    let count = 0;
    for (const sealed of bundles) {
      const own = courier.bundleOf(sealed.bundleId);
      // This process was too busy, or stopped for too long, to renew it.
      if (own !== undefined) own.renew(lease);
      else {
        await this.#take(sealed, lease);
        count += sealed.otpIds.length;
      }
    }
    counts.takenOver += count;
    if (count > 0) note({ event: 'delivery_taken_over', count });
    return count > 0 && bundles.length === max;
  }

  async #take({ bundleId, otpIds, keyId, sealed }: SealedBundle, lease: HeldLease): Promise<void> {
    const { courier, secrets, note, outbox, counts } = this.#parts;
    const secret = secrets.byId.get(keyId);
    const messages = secret === undefined ? null : openMessages(secret, bundleId, otpIds, sealed);
    // Which channels the rows of the codes name is not known here: none, so they are written anew.
    const list = messages?.map((one) => ({ ...one, planned: '' })) ?? [];
    const bundle = new Bundle(bundleId, list, lease);
    if (messages !== null) return courier.dispatch(bundle, true);
    for (const otpId of otpIds) note({ event: 'delivery_unreadable', otpId });
    await outbox.fail(otpIds.map((otpId) => ({ otpId, bundleId, address: null })));
    counts.failed.unreadable += otpIds.length;
    await outbox.save([bundle], []);
  }
}
