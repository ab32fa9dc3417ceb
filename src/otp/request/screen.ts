/**
 * Answers requests that will be refused, without locks and without a COMMIT. Otherwise a flood of
 * requests over a limit would compete for locks with the requests that get a code.
 */
import { loadState } from './batch.ts';
import { groupBy } from '../batch/changed-rows.ts';
import { Batcher } from '../batcher.ts';
import type { BatchLimits } from '../batcher.ts';
import { randomRequestId } from '../crypto/random.ts';
import type { Secrets } from '../crypto/secrets.ts';
import type { PairName } from '../../db/tables/otps.ts';
import { transaction } from '../../db/transaction.ts';
import type { Transaction } from '../../db/transaction.ts';
import { identifyClient, replayOrRefuse } from './decide.ts';
import type { PreparedRequest } from './decide.ts';
import type { Deps } from '../deps.ts';
import type { OtpRequest, RequestOutcome } from '../outcomes.ts';
import type { LimitName, Policies } from '../policy/policy.ts';
import { markTests } from '../policy/test-identities.ts';
import type { TestIdentities } from '../policy/test-identities.ts';
import { isAhead } from '../rules/lifecycle.ts';
import { fixedCodeOf, prepareRequest, requestLockKeys } from './request.ts';

/** Holds the sources of a large flood in a few hundred kilobytes. */
const LOCK_KEYS_MAX = 10_000;

/** Two, so that Node.js works on one batch while the database works on the other. */
const CONCURRENCY_MAX = 2;

/** A batch of refusals costs four reads, whatever its size. */
const BATCH_MAX = 512;

/**
 * The pause after a batch while codes are requested, so that a flood leaves the database to them:
 * it grows with the number of refusals, because a few refusals are no flood.
 */
const PAUSE_MS_PER_REFUSAL = 4;
const PAUSE_MAX_MS = 160;

/** Batches of requests have gaps between them: requires this many idle checks in a row. */
const IDLE_CHECKS = 4;

/** Limits that many users share; the other limits belong to one user. */
const SHARED_LIMITS: readonly LimitName[] = ['destination', 'net48', 'address', 'recipient'];

type ScreenDeps = Pick<Deps, 'pool' | 'policies' | 'secrets' | 'counts'>;

/** Remembers whom a limit or a lock has refused, and screens only their requests. */
export class RefusalScreen {
  readonly queue: Batcher<OtpRequest, RequestOutcome | null>;
  readonly #policies: Policies;
  /** Lock keys that were refused, the most recent ones last. */
  readonly #refused = new Set<string>();
  /** Empty while no limit and no lock has refused anybody: then no request need be screened. */
  readonly refused: ReadonlySet<string> = this.#refused;
  readonly #isIssuing: () => boolean;
  #idleChecksLeft = 0;

  /** @param isIssuing whether requests are being decided under lock */
  constructor(deps: ScreenDeps, limits: BatchLimits, isIssuing: () => boolean) {
    this.#policies = deps.policies;
    this.#isIssuing = isIssuing;
    this.queue = new Batcher({
      ...limits,
      concurrencyMax: CONCURRENCY_MAX,
      batchMax: BATCH_MAX,
      run: (requests, answerByMs) => screenRequests(deps, requests, answerByMs),
      lockKeysOf: () => [],
      pauseMs: (size) => this.#pauseMs(size),
    });
  }

  /**
   * Answers a request if its user, or anything else that it counts for, was refused before.
   *
   * @returns null, at once or later, when the request must be decided under lock
   */
  tryAnswer(
    request: OtpRequest,
    isConnected: () => boolean,
    answerByMs: number,
  ): Promise<RequestOutcome | null> | null {
    const lockKeys = requestLockKeys(this.#policies, request);
    if (!lockKeys.some((lockKey) => this.#refused.has(lockKey))) return null;
    return this.#screen(lockKeys, this.queue.submit(request, isConnected, answerByMs));
  }

  async #screen(
    lockKeys: readonly string[],
    screened: Promise<RequestOutcome | null>,
  ): Promise<RequestOutcome | null> {
    const outcome = await screened;
    if (outcome === null) for (const lockKey of lockKeys) this.#refused.delete(lockKey);
    return outcome;
  }

  /** Remembers a refusal under the lock key that most other requests share. */
  onDecided(request: OtpRequest, outcome: RequestOutcome): void {
    if (outcome.kind === 'issued' || outcome.kind === 'key_reused') return;
    const lockKeys = requestLockKeys(this.#policies, request);
    const limitedBy = outcome.kind === 'limited' ? outcome.limitedBy : [];
    const widest = SHARED_LIMITS.find((limit) => limitedBy.includes(limit));
    this.#remember(lockKeys.find((lockKey) => lockKey.startsWith(`${widest} `)) ?? lockKeys[0]!);
  }

  #remember(lockKey: string): void {
    this.#refused.delete(lockKey);
    this.#refused.add(lockKey);
    if (this.#refused.size <= LOCK_KEYS_MAX) return;
    const [oldest] = this.#refused;
    this.#refused.delete(oldest!);
  }

  #pauseMs(size: number): number {
    this.#idleChecksLeft = this.#isIssuing() ? IDLE_CHECKS : Math.max(0, this.#idleChecksLeft - 1);
    return this.#idleChecksLeft === 0 ? 0 : Math.min(PAUSE_MAX_MS, size * PAUSE_MS_PER_REFUSAL);
  }
}

/**
 * How the next request of each pair would be refused, apart from the limits of client IPs and
 * networks; null for one that would get a code.
 */
export function previewRequests(
  deps: Omit<ScreenDeps, 'counts'>,
  pairs: readonly Pick<PairName, 'userId' | 'purpose'>[],
): Promise<(RequestOutcome | null)[]> {
  return screenRequests(deps, pairs.map((pair) => ({
    ...pair, clientIp: null, clientNet48: null, key: randomRequestId(), apiClient: null,
    acceptLanguage: '',
  })));
}

/** One outcome for each request, in order; null for one that must be decided under lock. */
async function screenRequests(
  deps: Omit<ScreenDeps, 'counts'> & Partial<ScreenDeps>,
  inputs: readonly OtpRequest[],
  answerByMs?: number,
): Promise<(RequestOutcome | null)[]> {
  const requests = inputs.map((input) => prepareRequest(deps, input));
  const { testIdentities } = deps.policies;
  const outcomes = await transaction(deps.pool,
    (tx) => screenAll(tx, deps.secrets, requests, testIdentities), { answerByMs });
  deps.counts?.countRequests(outcomes);
  return outcomes;
}

async function screenAll(
  tx: Transaction,
  secrets: Secrets,
  requests: readonly PreparedRequest[],
  testIdentities: TestIdentities,
): Promise<(RequestOutcome | null)[]> {
  const state = await loadState(tx, requests, { secrets, lock: false });
  const { now, wrongCounts, ipLimits, extraLimits, revocations, stored } = state;
  const otpsByUser = groupBy(state.otps, ({ userId }) => userId);
  const outcomes = requests.map((prepared) => {
    const request = identifyClient(prepared, revocations.of(prepared.userId), now);
    const hitWindows = extraLimits.of(request.appliedLimits);
    const otps = otpsByUser.get(request.userId) ?? [];
    // What was stored after the clock was read, or before it was set back, is decided under lock.
    if (hitWindows.some(({ window }) => window.newestAt > now)) return null;
    if (otps.some((otp) => isAhead(otp, now))) return null;
    const slotWindows = ipLimits.of(request.slotLimits);
    if (slotWindows.some(({ window: { slots } }) =>
      slots.some(({ usedAt }) => usedAt > now))) return null;
    return replayOrRefuse({
      now,
      stored: stored.find(request.keyDigest),
      otps,
      keptWrong: wrongCounts.of(request),
      keptAccountWrong: wrongCounts.ofAccount(request),
      slotWindows,
      hitWindows,
    }, request);
  });
  return testIdentities.isEmpty ? outcomes
    : markTests(outcomes, (index) =>
      fixedCodeOf(testIdentities, requests[index]!, now) !== null);
}
