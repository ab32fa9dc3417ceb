/** The quota points of addresses, as a list of requests shares them inside one transaction. */
import { ChangedRows, groupBy } from './changed-rows.ts';
import type { Instant } from '../../db/instant.ts';
import {
  insertSlots, readOverflow, storeOverflow, updateSlots,
} from '../../db/tables/ip-limits.ts';
import type { IpOverflow, IpLimitSlot, OverflowEnds } from '../../db/tables/ip-limits.ts';
import type { Transaction } from '../../db/transaction.ts';
import { livePointsOf, mayOverflow, EMPTY_IP_WINDOW } from '../rules/ip-limit.ts';
import type { IpLimitChange, IpWindow, Overflow } from '../rules/ip-limit.ts';
import { windowStart } from '../rules/rolling-window.ts';

/** Points by address: those that were loaded, as decisions have changed them. */
export class IpLimitRows {
  readonly #uses = new Map<string, IpWindow>();
  readonly #changedSlots: ChangedRows<IpLimitSlot>;
  readonly #changedOverflow = new Map<string, IpOverflow>();

  /** @param loaded all slots of all addresses of the list */
  constructor(loaded: readonly IpLimitSlot[]) {
    this.#changedSlots = new ChangedRows(loaded, ({ clientIp, slot }) => `${slot} ${clientIp}`);
    for (const [address, slots] of groupBy(loaded, addressOf)) {
      this.#uses.set(address, { slots, overflow: null });
    }
  }

  /**
   * Reads the overflow of the addresses that may have one: of most lists none does.
   *
   * @param ask asks while the slots are locked, or without any lock
   * @param until leaves out what was used after it; null when the slots are locked
   * @param pointsNamed how many of the oldest points of an address the answers may name, by the
   *   live points that it has
   * @returns whether anything was asked
   */
  async loadOverflow(
    ask: Transaction['read'],
    now: Instant,
    until: Instant | null,
    pointsNamed: (address: string, livePoints: number) => number,
  ): Promise<boolean> {
    const after = windowStart(now);
    let open = [...this.#uses].filter(([, { slots }]) => mayOverflow(slots))
      .map(([address]) => ({ address, oldestMax: 1 }));
    const isAsked = open.length > 0;
    while (open.length > 0) {
      const ends = await ask(...open.map(({ address, oldestMax }) =>
        readOverflow(address, after, until, oldestMax)));
      open = open.flatMap(({ address, oldestMax }, index) => {
        const { slots } = this.of(address);
        const overflow = overflowOf(ends[index]!);
        this.#uses.set(address, { slots, overflow });
        const named = pointsNamed(address, livePointsOf(slots, now) + overflow.livePoints);
        return named <= oldestMax ? [] : [{ address, oldestMax: named }];
      });
    }
    return isAsked;
  }

  /** All that is known of an address. */
  of(address: string): IpWindow {
    return this.#uses.get(address) ?? EMPTY_IP_WINDOW;
  }

  /** Takes the use of a point, or its being given back. */
  put(clientIp: string, { after, write }: IpLimitChange): void {
    this.#uses.set(clientIp, after);
    if (write.kind === 'overflow') this.#changedOverflow.set(clientIp, { clientIp, ...write.use });
    else {
      const { slot, usedAt, points, refunded } = write.slot;
      this.#changedSlots.put({ clientIp, slot, usedAt, points, refunded });
    }
  }

  /** Leaves the writes of what was put to the transaction. */
  flush(tx: Transaction): void {
    const { known, fresh } = this.#changedSlots.split(addressOf);
    if (known.length > 0) tx.writes.push(updateSlots(known));
    if (fresh.length > 0) tx.writes.push(insertSlots(fresh));
    const overflow = [...this.#changedOverflow.values()];
    if (overflow.length > 0) tx.writes.push(storeOverflow(overflow));
  }
}

function addressOf({ clientIp }: IpLimitSlot): string {
  return clientIp;
}

/** Between the first that counts and the last lie as many points as their totals say. */
function overflowOf({ newest, oldest }: OverflowEnds): Overflow {
  const [first] = oldest;
  const livePoints = newest === null || first === undefined ? 0
    : newest.number - first.number + first.points;
  return { livePoints, oldest, newest };
}
