/** What the rules come to, counted: codes, refusals, locks, and the lists that requests go in. */
import { QueueMeter } from '../db/queue-meter.ts';
import { counter, gauge, histogram } from '../db/metrics/family.ts';
import type { Family } from '../db/metrics/family.ts';
import type { IssueOutcome, VerifyOutcome } from './outcome.ts';

/** The collectors, by the names of their work. */
export type QueueName = 'issue' | 'verify' | 'screen' | 'status' | 'cancel';

/** The counts of one service. Each is noted once the database has said what is true. */
export class OtpCounts {
  issued = 0;
  redeemed = 0;
  wrong = 0;
  locks = 0;
  limitedByUser = 0;
  limitedByAddress = 0;
  readonly queues: Readonly<Record<QueueName, QueueMeter>> = Object.freeze({
    issue: new QueueMeter(),
    verify: new QueueMeter(),
    screen: new QueueMeter(),
    status: new QueueMeter(),
    cancel: new QueueMeter(),
  });

  /** Counts how requests for codes ended; null is one that is not decided yet. */
  noteRequests(outcomes: readonly (IssueOutcome | null)[]): void {
    for (const outcome of outcomes) {
      if (outcome?.kind === 'issued' && !outcome.replayed) this.issued += 1;
      if (outcome?.kind !== 'limited') continue;
      if (outcome.limits.user.remaining === 0) this.limitedByUser += 1;
      if (outcome.limits.address?.remaining === 0) this.limitedByAddress += 1;
    }
  }

  /** Counts how attempts ended. */
  noteAttempts(outcomes: readonly VerifyOutcome[]): void {
    for (const outcome of outcomes) {
      const isLock = outcome.kind === 'locked' && outcome.begins;
      if (isLock) this.locks += 1;
      if (isLock || outcome.kind === 'wrong') this.wrong += 1;
      if (outcome.kind === 'verified' && !outcome.replayed) this.redeemed += 1;
    }
  }
}

/** What was counted. */
export function otpFamilies(counts: OtpCounts): Family[] {
  const queues = Object.entries(counts.queues);
  return [
    counter('otpd_codes_issued_total', 'Codes that were issued.', counts.issued),
    counter('otpd_codes_redeemed_total', 'Codes that were redeemed.', counts.redeemed),
    counter('otpd_codes_wrong_total', 'Wrong codes that were tried.', counts.wrong),
    counter('otpd_locks_total', 'Locks of a user and purpose after wrong codes.', counts.locks),
    counter('otpd_requests_limited_total',
      'Requests for a code that a limit has refused; one that both refuse counts for each.', [
        [{ limit: 'user' }, counts.limitedByUser],
        [{ limit: 'address' }, counts.limitedByAddress],
      ]),
    histogram('otpd_batch_size', 'Requests that went to the database together, in one list.',
      queues.map(([queue, { sizes }]) => [{ queue }, sizes] as const)),
    gauge('otpd_queue_depth', 'Requests that wait for a list to go in.',
      queues.map(([queue, meter]) => [{ queue }, meter.waiting()] as const)),
  ];
}
