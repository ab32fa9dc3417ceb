/** What single messages want of the outbox, collected into lists: one transaction for many. */
import { Collector } from '../../db/collector.ts';
import type { Failed, Outbox } from './outbox.ts';
import type { Parcel } from './parcel.ts';

const LIST_MAX = 500;
const WAITING_MAX = 10_000;

/**
 * - `ours`: the message is to be sent, and the lease is renewed.
 * - `ended`: its code cannot be redeemed any more.
 * - `lost`: another process has taken it over.
 */
export type Renewal = 'ours' | 'ended' | 'lost';

/** Collects for an outbox. All of it throws Unavailable when the database is away. */
export class OutboxQueue {
  readonly #renewals: Collector<Parcel, Renewal>;
  readonly #failures: Collector<Failed, boolean>;

  constructor(outbox: Outbox) {
    const lane = {
      lanesMax: 1, batchMax: LIST_MAX, backlogPerLane: 1, waitingMax: WAITING_MAX,
      // One list at a time: no two of them can meet.
      subjectsOf: () => [],
    };
    this.#renewals = new Collector({ ...lane, run: (list) => renewAll(outbox, list) });
    this.#failures = new Collector({
      ...lane,
      run: async (list) => {
        const closed = await outbox.fail(list);
        return list.map(({ otpId }) => closed.has(otpId));
      },
    });
  }

  /** Asks whether a message is to be sent still, and renews its lease. */
  renew(parcel: Parcel): Promise<Renewal> {
    return this.#renewals.submit(parcel);
  }

  /** Closes the code of a message that no channel will take; false when it was not ours to. */
  fail(failed: Failed): Promise<boolean> {
    return this.#failures.submit(failed);
  }
}

async function renewAll(outbox: Outbox, parcels: readonly Parcel[]): Promise<Renewal[]> {
  const { held, open, lease } = await outbox.renew(parcels);
  return parcels.map((parcel) => {
    if (!held.has(parcel.bundle.bundleId)) return 'lost';
    parcel.bundle.renew(lease);
    if (!open.has(parcel.message.otpId)) return 'ended';
    parcel.noteRenewal();
    return 'ours';
  });
}
