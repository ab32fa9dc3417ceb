/** The counts of the operations: outcomes by kind, and the sizes of their batches. */
import type { Batcher } from './batcher.ts';
import { counter, gauge, histogram } from '../metrics/families.ts';
import type { Family } from '../metrics/families.ts';
import type { RequestOutcome, VerifyOutcome } from './outcomes.ts';
import { LIMIT_NAMES } from './policy/policy.ts';
import type { LimitName } from './policy/policy.ts';

/** The queue label of the metrics (docs/metrics.md). */
type QueueName = 'issue' | 'verify' | 'screen' | 'status' | 'cancel';

type Queues = Readonly<Record<QueueName, Pick<Batcher<unknown, unknown>, 'sizes' | 'waiting'>>>;

/** The counts of one service. Outcomes count once their transaction has ended. */
export class OtpCounts {
  issued = 0;
  redeemed = 0;
  wrong = 0;
  /** The same three of test identities, which the others leave out. */
  readonly tests = { issued: 0, redeemed: 0, wrong: 0 };
  locks = 0;
  /** Refusals by each limit, and those that a limit in shadow would have made. */
  readonly limited = countsOfLimits();
  readonly shadowed = countsOfLimits();
  #queues: Partial<Queues> = {};

  get queues(): Partial<Queues> {
    return this.#queues;
  }

  /** Sets the queues of the service, which is created after its counts. */
  watch(queues: Queues): void {
    this.#queues = queues;
  }

  #of({ isTest }: RequestOutcome | VerifyOutcome): Record<'issued' | 'redeemed' | 'wrong', number> {
    return isTest === true ? this.tests : this;
  }

  /** @param outcomes null for a request that must be decided under lock */
  countRequests(outcomes: readonly (RequestOutcome | null)[]): void {
    for (const outcome of outcomes) {
      if (outcome?.kind === 'issued' && !outcome.replayed) this.#of(outcome).issued += 1;
      if (outcome?.kind === 'issued') countEach(this.shadowed, outcome.shadowed);
      if (outcome?.kind !== 'limited') continue;
      countEach(this.limited, outcome.limitedBy);
      countEach(this.shadowed, outcome.shadowed);
    }
  }

  /** @param shadowed the limits in shadow that would have refused, once for each verification */
  countVerifications(outcomes: readonly VerifyOutcome[], shadowed: readonly LimitName[]): void {
    countEach(this.shadowed, shadowed);
    for (const outcome of outcomes) {
      const isLock = 'begins' in outcome && outcome.begins;
      if (isLock) this.locks += 1;
      const isWrong = isLock || outcome.kind === 'wrong' || outcome.kind === 'key_reused';
      if (isWrong) this.#of(outcome).wrong += 1;
      if (outcome.kind === 'verified' && !outcome.replayed) this.#of(outcome).redeemed += 1;
      else if (outcome.kind === 'limited') countEach(this.limited, outcome.limitedBy);
    }
  }
}

export function otpFamilies(counts: OtpCounts): Family[] {
  const queues = Object.entries(counts.queues);
  return [
    counter('otpd_codes_issued_total', 'Codes that were issued.', counts.issued),
    counter('otpd_codes_redeemed_total', 'Codes that were redeemed.', counts.redeemed),
    counter('otpd_codes_wrong_total', 'Wrong codes that were tried.', counts.wrong),
    counter('otpd_test_codes_issued_total', 'Fixed codes that were issued to test identities.',
      counts.tests.issued),
    counter('otpd_test_codes_redeemed_total', 'Codes that test identities redeemed.',
      counts.tests.redeemed),
    counter('otpd_test_codes_wrong_total', 'Wrong codes that were tried for test identities.',
      counts.tests.wrong),
    counter('otpd_locks_total', 'Locks of a pair or an account after wrong codes.', counts.locks),
    counter('otpd_requests_limited_total',
      'Requests and attempts that a limit has refused; what several refuse counts for each.',
      byLimit(counts.limited)),
    counter('otpd_requests_shadow_limited_total',
      'Requests and attempts that a limit would have refused, were it not in shadow.',
      byLimit(counts.shadowed)),
    histogram('otpd_batch_size', 'Requests that went to the database together, in one list.',
      queues.map(([queue, { sizes }]) => [{ queue }, sizes] as const)),
    gauge('otpd_queue_depth', 'Requests that wait for a list to go in.',
      queues.map(([queue, meter]) => [{ queue }, meter.waiting] as const)),
  ];
}

type CountsOfLimits = Record<LimitName, number>;

function countsOfLimits(): CountsOfLimits {
  return Object.fromEntries(LIMIT_NAMES.map((limit) => [limit, 0])) as CountsOfLimits;
}

function countEach(counts: CountsOfLimits, limits: readonly LimitName[]): void {
  for (const limit of limits) counts[limit] += 1;
}

function byLimit(counts: CountsOfLimits) {
  return Object.entries(counts).map(([limit, count]) => [{ limit }, count] as const);
}
