/** Metrics of the database layer: retried transactions, connections, and removed rows. */
import { counter, gauge, histogram, Histogram, processGauge } from '../metrics/families.ts';
import type { Family } from '../metrics/families.ts';
import { DEADLOCK_ERRNO } from './errors.ts';
import type { StatementError } from './errors.ts';

/** The counts of the transactions of a pool. */
export class DbCounts {
  retries = 0;
  deadlocks = 0;
  /** Commits without an answer, and how many of them a commit probe found committed or not. */
  unanswered = 0;
  committed = 0;
  rolledBack = 0;

  countFailure({ errno }: StatementError): void {
    if (errno === DEADLOCK_ERRNO) this.deadlocks += 1;
  }

  countSettled(wasCommitted: boolean): boolean {
    if (wasCommitted) this.committed += 1;
    else this.rolledBack += 1;
    return wasCommitted;
  }
}

/** A search on one machine takes milliseconds; a host that does not answer bounds it. */
const SEARCH_BOUNDS_SECONDS = [0.01, 0.05, 0.1, 0.25, 0.5, 1];

/** The counts of the search for the primary. */
export class PrimaryCounts {
  moves = 0;
  readonly searchSeconds = new Histogram(SEARCH_BOUNDS_SECONDS);
}

/** @param hosts every host, and whether it is the primary */
export function primaryFamilies(
  { moves, searchSeconds }: PrimaryCounts,
  hosts: readonly (readonly [address: string, isPrimary: boolean])[],
): Family[] {
  return [
    processGauge('otpd_database_primary',
      'Whether the process takes the host for the primary, by host.',
      hosts.map(([host, isPrimary]) => [{ host }, Number(isPrimary)] as const)),
    counter('otpd_database_moves_total', 'Changes of the primary to another host.', moves),
    histogram('otpd_database_search_seconds', 'Time of a search for the primary.',
      [[{}, searchSeconds]]),
  ];
}

type PoolState = Readonly<{
  counts: DbCounts;
  busyCount: number; idleCount: number; openingCount: number; waitingCount: number; size: number;
}>;

export function dbFamilies(pool: PoolState): Family[] {
  const { retries, deadlocks, unanswered, committed, rolledBack } = pool.counts;
  return [
    counter('otpd_transaction_retries_total',
      'Transactions retried after a lost race or a lost connection.', retries),
    counter('otpd_deadlocks_total',
      'Deadlocks in which MySQL rolled back a transaction of otpd.', deadlocks),
    counter('otpd_unanswered_commits_total',
      'Commits without an answer; their outcome was unknown at first.', unanswered),
    counter('otpd_settled_commits_total',
      'Commits without an answer whose outcome was found in time, by outcome.',
      [[{ result: 'committed' }, committed], [{ result: 'rolled_back' }, rolledBack]]),
    gauge('otpd_pool_sessions', 'Connections to MySQL, by state.', [
      [{ state: 'busy' }, pool.busyCount],
      [{ state: 'idle' }, pool.idleCount],
      [{ state: 'opening' }, pool.openingCount],
    ]),
    gauge('otpd_pool_waiting', 'Transactions that wait for a connection.', pool.waitingCount),
    gauge('otpd_pool_size', 'Maximum number of connections to MySQL.', pool.size),
  ];
}

/** Counts of one process, for each swept table. */
export class SweepCounts {
  readonly #passes: readonly { table: string; removed: number; oldestSeconds: number }[];

  /** @param tables the table of each pass */
  constructor(tables: readonly string[]) {
    this.#passes = tables.map((table) => ({ table, removed: 0, oldestSeconds: 0 }));
  }

  countRemoved(pass: number, rows: number): void {
    this.#passes[pass]!.removed += rows;
  }

  /** @param oldestSeconds how long ago the oldest expired row of the pass had expired */
  recordPass(pass: number, oldestSeconds: number): void {
    this.#passes[pass]!.oldestSeconds = oldestSeconds;
  }

  /** Sums per table: a table with several passes appears once. */
  byTable(): Map<string, { removed: number; oldestSeconds: number }> {
    const tables = new Map<string, { removed: number; oldestSeconds: number }>();
    for (const { table, removed, oldestSeconds } of this.#passes) {
      const other = tables.get(table) ?? { removed: 0, oldestSeconds: 0 };
      tables.set(table, {
        removed: other.removed + removed,
        oldestSeconds: Math.max(other.oldestSeconds, oldestSeconds),
      });
    }
    return tables;
  }
}

export function sweepFamilies(counts: SweepCounts): Family[] {
  const tables = [...counts.byTable()];
  return [
    counter('otpd_swept_rows_total', 'Expired rows removed.',
      tables.map(([table, { removed }]) => [{ table }, removed] as const)),
    processGauge('otpd_oldest_dead_row_seconds',
      'Age, since expiry, of the oldest expired row found by the last complete pass.',
      tables.map(([table, { oldestSeconds }]) => [{ table }, oldestSeconds] as const)),
  ];
}
