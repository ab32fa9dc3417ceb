/** The quota points of addresses, as a list of requests shares them inside one transaction. */
import { ChangedRows, groupBy } from './changed-rows.ts';
import type { Instant } from '../../db/instant.ts';
import {
  insertSlots, readOverflow, storeOverflow, updateSlots,
} from '../../db/tables/ip-limits.ts';
import type { IpOverflow, IpLimitSlot, OverflowEnds } from '../../db/tables/ip-limits.ts';
import type { Transaction } from '../../db/transaction.ts';
import { countLivePoints, mayHaveOverflow, EMPTY_IP_WINDOW } from '../rules/ip-limit.ts';
import type { IpLimitChange, IpWindow, Overflow } from '../rules/ip-limit.ts';
import { windowStart } from '../rules/rolling-window.ts';

/** Points by address: those that were loaded, as decisions have changed them. */
export class IpLimitRows {
  readonly #windows = new Map<string, IpWindow>();
  readonly #changedSlots: ChangedRows<IpLimitSlot>;
  readonly #changedOverflow = new Map<string, IpOverflow>();

  /** @param loaded all slots of all addresses of the list */
  constructor(loaded: readonly IpLimitSlot[]) {
    this.#changedSlots = new ChangedRows(loaded, ({ clientIp, slot }) => `${slot} ${clientIp}`);
    for (const [clientIp, slots] of groupBy(loaded, clientIpOf)) {
      this.#windows.set(clientIp, { slots, overflow: null });
    }
  }

  /**
   * Reads the overflow of the addresses that may have one: of most lists none does.
   *
   * @param read asks while the slots are locked, or without any lock
   * @param until leaves out what was used after it; null when the slots are locked
   * @param countNamed how many of the oldest points of an address the answers may name, by the
   *   live points that it has
   * @returns whether anything was asked
   */
  async loadOverflow(
    read: Transaction['read'],
    now: Instant,
    until: Instant | null,
    countNamed: (clientIp: string, livePoints: number) => number,
  ): Promise<boolean> {
    const after = windowStart(now);
    let pending = [...this.#windows].filter(([, { slots }]) => mayHaveOverflow(slots))
      .map(([clientIp]) => ({ clientIp, oldestMax: 1 }));
    const wasRead = pending.length > 0;
    while (pending.length > 0) {
      const ends = await read(...pending.map(({ clientIp, oldestMax }) =>
        readOverflow(clientIp, after, until, oldestMax)));
      pending = pending.flatMap(({ clientIp, oldestMax }, index) => {
        const { slots } = this.of(clientIp);
        const overflow = overflowOf(ends[index]!);
        this.#windows.set(clientIp, { slots, overflow });
        const named = countNamed(clientIp, countLivePoints(slots, now) + overflow.livePoints);
        return named <= oldestMax ? [] : [{ clientIp, oldestMax: named }];
      });
    }
    return wasRead;
  }

  /** All that is known of an address. */
  of(clientIp: string): IpWindow {
    return this.#windows.get(clientIp) ?? EMPTY_IP_WINDOW;
  }

  /** Takes the use of a point, or its being given back. */
  put(clientIp: string, { after, write }: IpLimitChange): void {
    this.#windows.set(clientIp, after);
    if (write.kind === 'overflow') this.#changedOverflow.set(clientIp, { clientIp, ...write.hit });
    else {
      const { slot, usedAt, points, refunded } = write.slot;
      this.#changedSlots.put({ clientIp, slot, usedAt, points, refunded });
    }
  }

  /** Leaves the writes of what was put to the transaction. */
  flush(tx: Transaction): void {
    const { stored, added } = this.#changedSlots.split(clientIpOf);
    if (stored.length > 0) tx.writes.push(updateSlots(stored));
    if (added.length > 0) tx.writes.push(insertSlots(added));
    const overflow = [...this.#changedOverflow.values()];
    if (overflow.length > 0) tx.writes.push(storeOverflow(overflow));
  }
}

function clientIpOf({ clientIp }: IpLimitSlot): string {
  return clientIp;
}

/** Between the first that counts and the last lie as many points as their totals say. */
function overflowOf({ newest, oldest }: OverflowEnds): Overflow {
  const [first] = oldest;
  const livePoints = newest === null || first === undefined ? 0
    : newest.number - first.number + first.points;
  return { livePoints, oldest, newest };
}
