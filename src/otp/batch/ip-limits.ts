/** The points in slots that one transaction has read and will write. */
import { ChangedRows, groupBy } from './changed-rows.ts';
import type { Instant } from '../../db/instant.ts';
import type { Write } from '../../db/query.ts';
import {
  clampOverflow, clampSlots, insertSlots, readOverflow, storeOverflow, updateSlots,
} from '../../db/tables/ip-limits.ts';
import type { IpOverflow, IpLimitSlot, OverflowEnds } from '../../db/tables/ip-limits.ts';
import type { Transaction } from '../../db/transaction.ts';
import { countLivePoints, mayHaveOverflow, EMPTY_IP_WINDOW } from '../rules/ip-limit.ts';
import type {
  IpLimitChange, IpWindow, MeasuredSlots, Overflow, SlotLimit,
} from '../rules/ip-limit.ts';
import { windowStart } from '../rules/rolling-window.ts';

export class IpLimitRows {
  readonly #windows = new Map<string, IpWindow>();
  readonly #changedSlots: ChangedRows<IpLimitSlot>;
  readonly #changedOverflow = new Map<string, IpOverflow>();

  /** @param loaded all slots of the subjects of the batch */
  constructor(loaded: readonly IpLimitSlot[]) {
    this.#changedSlots = new ChangedRows(loaded, ({ subject, slot }) => `${slot} ${subject}`);
    for (const [subject, slots] of groupBy(loaded, subjectOf)) {
      this.#windows.set(subject, { slots, overflow: null });
    }
  }

  /**
   * Reads the overflow of the subjects that may have one; most batches have no such subject.
   *
   * @param until leaves out later points; null when the slots are locked
   * @param countNamed how many of the oldest points of a subject the responses may name
   * @returns whether any statement ran
   */
  async loadOverflow(
    read: Transaction['read'],
    now: Instant,
    until: Instant | null,
    countNamed: (subject: string, livePoints: number) => number,
  ): Promise<boolean> {
    const after = windowStart(now);
    let pending = [...this.#windows].filter(([, { slots }]) => mayHaveOverflow(slots))
      .map(([subject]) => ({ subject, oldestMax: 1 }));
    const wasRead = pending.length > 0;
    while (pending.length > 0) {
      const ends = await read(...pending.map(({ subject, oldestMax }) =>
        readOverflow(subject, after, until, oldestMax)));
      pending = pending.flatMap(({ subject, oldestMax }, index) => {
        const { slots } = this.windowOf(subject);
        const overflow = overflowOf(ends[index]!);
        this.#windows.set(subject, { slots, overflow });
        const named = countNamed(subject, countLivePoints(slots, now) + overflow.livePoints);
        return named <= oldestMax ? [] : [{ subject, oldestMax: named }];
      });
    }
    return wasRead;
  }

  of(limits: readonly SlotLimit[]): readonly MeasuredSlots[] {
    return limits.map((limit) => ({ limit, window: this.windowOf(limit.subject) }));
  }

  windowOf(subject: string): IpWindow {
    return this.#windows.get(subject) ?? EMPTY_IP_WINDOW;
  }

  /** The writes that end times which the clock has not reached, for locked slots. */
  clamps(now: Instant): readonly Write[] {
    const ahead = [...this.#windows].filter(([, { slots }]) =>
      slots.some(({ usedAt }) => usedAt > now)).map(([subject]) => subject);
    const ofOverflow = [...this.#windows].flatMap(([subject, { overflow }]) =>
      ((overflow?.newest?.usedAt ?? now) > now ? clampOverflow(subject, now) : []));
    return [...(ahead.length === 0 ? [] : [clampSlots(ahead)]), ...ofOverflow];
  }

  put(subject: string, { after, write }: IpLimitChange): void {
    this.#windows.set(subject, after);
    if (write.kind === 'overflow') this.#changedOverflow.set(subject, { subject, ...write.hit });
    else {
      const { slot, usedAt, points, refunded } = write.slot;
      this.#changedSlots.put({ subject, slot, usedAt, points, refunded });
    }
  }

  flush(tx: Transaction): void {
    const { stored, added } = this.#changedSlots.split(subjectOf);
    if (stored.length > 0) tx.writes.push(updateSlots(stored));
    if (added.length > 0) tx.writes.push(insertSlots(added));
    const overflow = [...this.#changedOverflow.values()];
    if (overflow.length > 0) tx.writes.push(storeOverflow(overflow));
  }
}

function subjectOf({ subject }: IpLimitSlot): string {
  return subject;
}

/** The numbers of the oldest and the newest hit give the points between them. */
function overflowOf({ newest, oldest }: OverflowEnds): Overflow {
  const [first] = oldest;
  const livePoints = newest === null || first === undefined ? 0
    : newest.number - first.number + first.points;
  return { livePoints, oldest, newest };
}
