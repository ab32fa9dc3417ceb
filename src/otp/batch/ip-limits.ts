/** The points of client IPs that one transaction has read and will write. */
import { ChangedRows, groupBy } from './changed-rows.ts';
import type { Instant } from '../../db/instant.ts';
import type { Write } from '../../db/query.ts';
import {
  clampOverflow, clampSlots, insertSlots, readOverflow, storeOverflow, updateSlots,
} from '../../db/tables/ip-limits.ts';
import type { IpOverflow, IpLimitSlot, OverflowEnds } from '../../db/tables/ip-limits.ts';
import type { Transaction } from '../../db/transaction.ts';
import { countLivePoints, mayHaveOverflow, EMPTY_IP_WINDOW } from '../rules/ip-limit.ts';
import type { IpLimitChange, IpWindow, Overflow } from '../rules/ip-limit.ts';
import { windowStart } from '../rules/rolling-window.ts';

export class IpLimitRows {
  readonly #windows = new Map<string, IpWindow>();
  readonly #changedSlots: ChangedRows<IpLimitSlot>;
  readonly #changedOverflow = new Map<string, IpOverflow>();

  /** @param loaded all slots of the client IPs of the batch */
  constructor(loaded: readonly IpLimitSlot[]) {
    this.#changedSlots = new ChangedRows(loaded, ({ clientIp, slot }) => `${slot} ${clientIp}`);
    for (const [clientIp, slots] of groupBy(loaded, clientIpOf)) {
      this.#windows.set(clientIp, { slots, overflow: null });
    }
  }

  /**
   * Reads the overflow of the client IPs that may have one; most batches have no such client IP.
   *
   * @param until leaves out later points; null when the slots are locked
   * @param countNamed how many of the oldest points of a client IP the responses may name
   * @returns whether any statement ran
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

  of(clientIp: string): IpWindow {
    return this.#windows.get(clientIp) ?? EMPTY_IP_WINDOW;
  }

  /** The writes that end times which the clock has not reached, for locked slots. */
  clamps(now: Instant): readonly Write[] {
    const ahead = [...this.#windows].filter(([, { slots }]) =>
      slots.some(({ usedAt }) => usedAt > now)).map(([clientIp]) => clientIp);
    const ofOverflow = [...this.#windows].flatMap(([clientIp, { overflow }]) =>
      ((overflow?.newest?.usedAt ?? now) > now ? clampOverflow(clientIp, now) : []));
    return [...(ahead.length === 0 ? [] : [clampSlots(ahead)]), ...ofOverflow];
  }

  put(clientIp: string, { after, write }: IpLimitChange): void {
    this.#windows.set(clientIp, after);
    if (write.kind === 'overflow') this.#changedOverflow.set(clientIp, { clientIp, ...write.hit });
    else {
      const { slot, usedAt, points, refunded } = write.slot;
      this.#changedSlots.put({ clientIp, slot, usedAt, points, refunded });
    }
  }

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

/** The numbers of the oldest and the newest hit give the points between them. */
function overflowOf({ newest, oldest }: OverflowEnds): Overflow {
  const [first] = oldest;
  const livePoints = newest === null || first === undefined ? 0
    : newest.number - first.number + first.points;
  return { livePoints, oldest, newest };
}
