/** The requests that can be answered without a lock and without a write. */
import { nameRequest, namesOf, pointsNamedBy } from './batch.ts';
import type { NamedRequest } from './batch.ts';
import { groupBy } from '../batch/changed-rows.ts';
import { ExtraLimitRows } from '../batch/extra-limits.ts';
import { IpLimitRows } from '../batch/ip-limits.ts';
import { StoredResponses } from '../batch/stored-responses.ts';
import { READ_CLOCK } from '../../db/clock.ts';
import type { ConnectionPool } from '../../db/pool.ts';
import { mapResult } from '../../db/query.ts';
import { loadStoredRequests } from '../../db/tables/idempotency-keys.ts';
import type { StoredRequest } from '../../db/tables/idempotency-keys.ts';
import { readSlots } from '../../db/tables/ip-limits.ts';
import { readOtpSummaries } from '../../db/tables/otps.ts';
import { transaction } from '../../db/transaction.ts';
import type { Transaction } from '../../db/transaction.ts';
import { answerWithoutIssuing } from './decide.ts';
import type { OtpCounts } from '../metrics.ts';
import type { OtpRequest, RequestOutcome } from '../outcomes.ts';
import type { Policies } from '../policy/policy.ts';

/** What it needs. */
type ScreenDeps = Readonly<{
  pool: ConnectionPool; policies: Policies; counts?: OtpCounts;
}>;

/**
 * Answers what can be answered without a lock and without a write: replays, reused keys, locks
 * and exhausted limits.
 *
 * @returns one outcome for each request, in order; null for one that must be decided under lock
 * @throws Unavailable when the database cannot answer
 */
export async function screenRequests(
  { pool, policies, counts }: ScreenDeps,
  inputs: readonly OtpRequest[],
): Promise<(RequestOutcome | null)[]> {
  const requests = inputs.map((input) => nameRequest(policies, input));
  const outcomes = await transaction(pool, (tx) => answerAll(tx, requests));
  counts?.noteRequests(outcomes);
  return outcomes;
}

/**
 * The clock is read first, and what was used after that time is left out, so that whoever is
 * refused is refused by codes of the last 15 minutes and no others. The keys are read last: a code
 * that refuses the repeat of its own request is found under its key, and replayed.
 */
async function answerAll(
  tx: Transaction,
  requests: readonly NamedRequest[],
): Promise<(RequestOutcome | null)[]> {
  const { users, addresses, keys } = namesOf(requests);
  const tallies = ExtraLimitRows.for(requests);
  let stored: readonly StoredRequest[] = [];
  const loadKeys = mapResult(loadStoredRequests(keys), (found) => { stored = found; });
  const [now, otps, slots] = await tx.readAndEnd(
    READ_CLOCK, readOtpSummaries(users), readSlots(addresses),
    ...(tallies.isEmpty ? [] : [tallies.readUnlocked, tallies.uses]), loadKeys);
  const otpsOf = groupBy(otps.filter(({ createdAt }) => createdAt <= now), ({ userId }) => userId);
  const addressBook = new IpLimitRows(slots.filter(({ usedAt }) => usedAt <= now));
  const isAsked = await addressBook.loadOverflow(tx.readAndEnd, now, now, pointsNamedBy(requests));
  if (isAsked) await tx.readAndEnd(loadKeys);
  const answers = new StoredResponses(stored);
  return requests.map((request) => {
    const counted = tallies.of(request.appliedLimits);
    const own = otpsOf.get(request.userId) ?? [];
    // Neither numbers nor wrong codes can be taken back to the time of the clock.
    if (counted.some(({ window }) => window.newestAt > now)) return null;
    if (own.some(({ lastWrongAt }) => lastWrongAt !== null && lastWrongAt > now)) return null;
    return answerWithoutIssuing({
      now,
      answer: answers.find(request.keyDigest),
      otps: own,
      ipWindow: request.clientIp === null ? null : addressBook.of(request.clientIp),
      hitWindows: counted,
    }, request, request.policy);
  });
}

/** Enough for a flood from many; a few hundred kilobytes at the most. */
const SUBJECTS_MAX = 10_000;

/** A bounded memory of subjects. */
export class RefusedLately {
  readonly #subjects = new Set<string>();

  /** Remembers a subject; the one remembered for longest makes room. */
  add(subject: string): void {
    this.#subjects.delete(subject);
    this.#subjects.add(subject);
    if (this.#subjects.size <= SUBJECTS_MAX) return;
    for (const oldest of this.#subjects) {
      this.#subjects.delete(oldest);
      return;
    }
  }

  /** Nobody was: there is nothing to ask for. */
  get isEmpty(): boolean {
    return this.#subjects.size === 0;
  }

  /** Whether any of them was refused lately. */
  hasAny(subjects: readonly string[]): boolean {
    return subjects.some((subject) => this.#subjects.has(subject));
  }

  /** Forgets subjects that were let through. */
  forget(subjects: readonly string[]): void {
    for (const subject of subjects) this.#subjects.delete(subject);
  }
}

/** Then so many more lists read: who repeats requests does it again. */
const LISTS_AFTER_NEED = 64;

/** Remembers whether keys that are not new came lately. One per process. */
export class KeyReading {
  #listsToGo = 0;

  /** Whether the next list reads. */
  next(): boolean {
    if (this.#listsToGo === 0) return false;
    this.#listsToGo -= 1;
    return true;
  }

  /** A list could not be decided without. */
  noteNeed(): void {
    this.#listsToGo = LISTS_AFTER_NEED;
  }
}
