/** What is counted of dead rows: those that were removed, and how long they had lain. */
import { counter, processGauge } from './metrics/family.ts';
import type { Family } from './metrics/family.ts';

/** The counts of one process's walks. */
export class SweepCounts {
  readonly #walks: readonly { table: string; removed: number; oldestSeconds: number }[];

  /** @param tables the table of each walk */
  constructor(tables: readonly string[]) {
    this.#walks = tables.map((table) => ({ table, removed: 0, oldestSeconds: 0 }));
  }

  /** Counts rows that a walk has removed. */
  noteRemoved(walk: number, rows: number): void {
    this.#walks[walk]!.removed += rows;
  }

  /** Notes the end of a walk: how long the oldest of all dead rows on the way had been dead. */
  noteEnd(walk: number, oldestSeconds: number): void {
    this.#walks[walk]!.oldestSeconds = oldestSeconds;
  }

  /** Each table with what was removed by all of its walks, and the oldest of their last ones. */
  byTable(): Map<string, { removed: number; oldestSeconds: number }> {
    const tables = new Map<string, { removed: number; oldestSeconds: number }>();
    for (const { table, removed, oldestSeconds } of this.#walks) {
      const other = tables.get(table) ?? { removed: 0, oldestSeconds: 0 };
      tables.set(table, {
        removed: other.removed + removed,
        oldestSeconds: Math.max(other.oldestSeconds, oldestSeconds),
      });
    }
    return tables;
  }
}

/** What was counted. */
export function sweepFamilies(counts: SweepCounts): Family[] {
  const tables = [...counts.byTable()];
  return [
    counter('otpd_swept_rows_total', 'Dead rows that were removed.',
      tables.map(([table, { removed }]) => [{ table }, removed] as const)),
    processGauge('otpd_oldest_dead_row_seconds',
      'How long the oldest dead row had been dead that the last walk through the table has met.',
      tables.map(([table, { oldestSeconds }]) => [{ table }, oldestSeconds] as const)),
  ];
}
