/** What single messages want of the outbox, collected into lists: one statement for many. */
import { Collector } from '../../db/collector.ts';
import type { Accepted, Failed, Outbox } from './outbox.ts';
import type { Parcel } from './parcel.ts';

const LIST_MAX = 500;
const WAITING_MAX = 10_000;

/** Marks are no hurry: one list of what was accepted meanwhile costs one flush to disk. */
const MARK_PAUSE_MS = 20;

/** Collects for an outbox. All of it throws Unavailable when the database is away. */
export class OutboxQueue {
  readonly #renewals: Collector<Parcel, boolean>;
  readonly #marks: Collector<Accepted, null>;
  readonly #failures: Collector<Failed, boolean>;
  #pending = 0;

  constructor(outbox: Outbox) {
    const lane = {
      lanesMax: 1, batchMax: LIST_MAX, backlogPerLane: 1, waitingMax: WAITING_MAX,
      // One list at a time: no two of them can meet.
      subjectsOf: () => [],
    };
    this.#renewals = new Collector({ ...lane, run: (list) => renewAll(outbox, list) });
    this.#marks = new Collector({
      ...lane,
      pauseMs: () => MARK_PAUSE_MS,
      run: async (list) => {
        await outbox.markAccepted(list);
        return list.map(() => null);
      },
    });
    this.#failures = new Collector({
      ...lane,
      run: async (list) => {
        const closed = await outbox.fail(list);
        return list.map(({ otpId }) => closed.has(otpId));
      },
    });
  }

  /** True while something is written, or waits to be. */
  get isBusy(): boolean {
    return this.#pending > 0;
  }

  /** Renews the lease of a message; false when it is not this process's to send any more. */
  renew(parcel: Parcel): Promise<boolean> {
    return this.#renewals.submit(parcel);
  }

  /** Erases a message that was accepted. */
  async markAccepted(accepted: Accepted): Promise<void> {
    await this.#count(this.#marks.submit(accepted));
  }

  /** Closes the code of a message that no channel will take; false when it was not ours to. */
  fail(failed: Failed): Promise<boolean> {
    return this.#count(this.#failures.submit(failed));
  }

  async #count<T>(work: Promise<T>): Promise<T> {
    this.#pending += 1;
    try {
      return await work;
    } finally {
      this.#pending -= 1;
    }
  }
}

async function renewAll(outbox: Outbox, parcels: readonly Parcel[]): Promise<boolean[]> {
  const { held, lease } = await outbox.hold(parcels.map(({ message }) => message.otpId));
  return parcels.map((parcel) => {
    const isHeld = held.has(parcel.message.otpId);
    if (isHeld) parcel.renew(lease);
    return isHeld;
  });
}
