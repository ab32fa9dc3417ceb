/**
 * Removes dead rows a few at a time, inside the transactions that issue codes: no timer, no cron,
 * and no index on time that every request would have to maintain. A cursor walks each table in
 * the order of its primary key.
 */
import { randomInt } from 'node:crypto';
import { SweepCounts } from './sweep-metrics.ts';
import { createSweep } from './sweep-step.ts';
import type { Sweep, Walk } from './sweep-step.ts';
import { SWEPT_TABLES } from './swept-tables.ts';
import type { SweptTable, WrittenRows } from './swept-tables.ts';

/**
 * How fast a table is walked: so that there are never more dead rows than live ones, also when two
 * processes walk in step. Slower where the last step met none dead is not enough: live rows lie
 * beside each other, and meanwhile as many die elsewhere (tried: the bound was passed).
 */
const ROWS_PER_CODE = 4;

/** Where hardly any can be dead: all processes together pass by each row once in two lives. */
const ROWS_PER_CODE_SLOWLY = 0.5;

/** A step is due when so many rows are: looking at any at all costs as much as at eight hundred. */
const STEP_ROWS = 1024;

/** An empty table is looked at less often. */
const EMPTY_STEP_ROWS = 4096;

/** Where the dead are at the beginning, and the last step met none, a look at it is enough. */
const HEAD_ROWS = 16;

/** Walks the tables, a step for every two hundred codes or so. One per process. */
export class Sweeper {
  readonly counts = new SweepCounts(SWEPT_TABLES.map(({ name }) => name));
  readonly #walks: readonly Walk[];
  readonly #keysVary: () => boolean;

  /** @param keysVary whether idempotency keys are kept for different times now */
  constructor(keysVary: () => boolean = () => true) {
    this.#keysVary = keysVary;
    // What comes first differs from process to process: many short lives sweep all tables too.
    this.#walks = SWEPT_TABLES.map(() => ({
      after: undefined, due: randomInt(STEP_ROWS), oldestSeconds: 0, isAtEase: false,
      isEmpty: false,
    }));
  }

  /**
   * The next step, on the table that it is most due on; null when it is due on none.
   *
   * @param codes how many codes the transaction may issue
   * @param near rows that it may write: where a process begins to walk, so that several do not
   *   walk in step
   */
  next(codes: number, near: WrittenRows): Sweep | null {
    let turn = -1;
    let mostDue = 1;
    for (const [index, walk] of this.#walks.entries()) {
      walk.due += codes * this.#paceOf(SWEPT_TABLES[index]!);
      const isDue = walk.due / (walk.isEmpty ? EMPTY_STEP_ROWS : STEP_ROWS);
      if (isDue < mostDue) continue;
      turn = index;
      mostDue = isDue;
    }
    return turn === -1 ? null : this.#step(turn, near);
  }

  #paceOf({ isWhereKeysVary }: SweptTable): number {
    const isSlow = isWhereKeysVary === true && !this.#keysVary();
    return isSlow ? ROWS_PER_CODE_SLOWLY : ROWS_PER_CODE;
  }

  #step(turn: number, near: WrittenRows): Sweep {
    const table = SWEPT_TABLES[turn]!;
    const walk = this.#walks[turn]!;
    if (walk.after === undefined) walk.after = table.firstOf(near);
    const isLook = table.isInOrderOfTime === true && walk.isAtEase;
    const rows = isLook ? HEAD_ROWS : Math.ceil(walk.due);
    walk.due = 0;
    return createSweep(table, walk, rows, {
      onEnd: (oldestSeconds) => this.counts.noteEnd(turn, oldestSeconds),
      onRemoved: (count) => this.counts.noteRemoved(turn, count),
    });
  }
}
