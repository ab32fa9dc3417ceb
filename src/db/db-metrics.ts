/** What the database layer counts: transactions that did not go smoothly, and its sessions. */
import { counter, gauge } from './metrics/family.ts';
import type { Family } from './metrics/family.ts';
import type { SessionPool } from './pool.ts';
import type { StatementError } from './statement-error.ts';

const DEADLOCK_ERRNO = 1213;

/** The counts of one pool. */
export class DbCounts {
  /** Transactions that were run again as a whole. */
  retries = 0;
  deadlocks = 0;
  /** Commits that were not answered, and what was found out about them in time. */
  unanswered = 0;
  committed = 0;
  rolledBack = 0;

  /** Counts what a transaction ended with that may be run again. */
  noteFailure({ errno }: StatementError): void {
    if (errno === DEADLOCK_ERRNO) this.deadlocks += 1;
  }

  /** Counts a commit without an answer that was found out about. Gives what it is given. */
  noteSettled(wasCommitted: boolean): boolean {
    if (wasCommitted) this.committed += 1;
    else this.rolledBack += 1;
    return wasCommitted;
  }
}

/** What was counted, and how the sessions of the pool are. */
export function dbFamilies(pool: SessionPool): Family[] {
  const { retries, deadlocks, unanswered, committed, rolledBack } = pool.counts;
  return [
    counter('otpd_transaction_retries_total',
      'Transactions that were run again after a lost race or a lost connection.', retries),
    counter('otpd_deadlocks_total', 'Deadlocks that MySQL has ended at our cost.', deadlocks),
    counter('otpd_unanswered_commits_total',
      'Commits that were not answered: their outcome was unknown at first.', unanswered),
    counter('otpd_settled_commits_total',
      'Commits without an answer that were found out about in time, by what had become of them.',
      [[{ result: 'committed' }, committed], [{ result: 'rolled_back' }, rolledBack]]),
    gauge('otpd_pool_sessions', 'Sessions with the database, by state.', [
      [{ state: 'busy' }, pool.busyCount],
      [{ state: 'idle' }, pool.idleCount],
      [{ state: 'opening' }, pool.openingCount],
    ]),
    gauge('otpd_pool_waiting', 'Transactions that wait for a session.', pool.waitingCount),
    gauge('otpd_pool_size', 'Sessions that may be open at a time.', pool.size),
  ];
}
