/**
 * The state that a list of attempts shares inside one transaction: loaded once, changed by each
 * decision in the order of arrival, written once. A lone attempt is a list of one.
 */
import { loadClockAndAnswers } from '../db/idempotency-keys.ts';
import type { StoredAnswer } from '../db/idempotency-keys.ts';
import type { Instant } from '../db/instant.ts';
import { isVerifyStored, lockPairs, storePairs, VERIFY_ID_BYTES } from '../db/otps.ts';
import type { Pair, PairName } from '../db/otps.ts';
import type { Transaction } from '../db/transaction.ts';
import type { VerifyState, VerifyWrites } from './decide-verify.ts';
import { AnswerBook } from './answer-book.ts';
import { bytesKey, pairKey } from './map-keys.ts';

/** What the ledger needs to know of an attempt. */
export type VerifyMember = PairName & Readonly<{ keyDigest: Buffer | null; verifyId: Buffer }>;

/** The state of a list of attempts. */
export class VerifyLedger {
  readonly #now: Instant;
  readonly #answers: AnswerBook;
  readonly #pairs: Map<string, Pair>;
  readonly #changedPairs: Map<string, Pair> = new Map();

  private constructor(now: Instant, answers: StoredAnswer[], pairs: Pair[]) {
    this.#now = now;
    this.#answers = new AnswerBook(answers);
    this.#pairs = new Map(pairs.map((pair) => [pairKey(pair), pair]));
  }

  /** Locks the pairs that exist, and reads the rest, the clock included, once they are held. */
  static async load(tx: Transaction, members: readonly VerifyMember[]): Promise<VerifyLedger> {
    const names = new Map(members.map((member) => [pairKey(member), member]));
    const keys = new Map<string, Buffer>();
    for (const { keyDigest } of members) {
      if (keyDigest !== null) keys.set(bytesKey(keyDigest), keyDigest);
    }
    const [pairs, { now, answers }] = await tx.ask(
      lockPairs([...names.values()]),
      loadClockAndAnswers([...keys.values()]),
    );
    return new VerifyLedger(now, answers, pairs);
  }

  /** What a member's decision rests on, as the members before it have left it. */
  stateOf({ userId, purpose, keyDigest }: VerifyMember): VerifyState {
    return {
      now: this.#now,
      answer: keyDigest === null ? null : this.#answers.find(keyDigest),
      pair: this.#pairs.get(pairKey({ userId, purpose })) ?? null,
    };
  }

  /** Takes a member's writes into the state. */
  apply({ pair, answer }: VerifyWrites): void {
    const name = pairKey(pair);
    this.#pairs.set(name, pair);
    this.#changedPairs.set(name, pair);
    if (answer !== null) this.#answers.add(answer);
  }

  /** True when no decision changed anything. */
  get isUnchanged(): boolean {
    return this.#changedPairs.size === 0;
  }

  /** Writes what changed, each row once, each table in one statement; says how to prove it. */
  store(tx: Transaction): void {
    const pairs = [...this.#changedPairs.values()];
    const first = pairs[0];
    if (first === undefined) return;
    const newest = first.verifyIds.subarray(0, VERIFY_ID_BYTES);
    tx.wasCommitted = isVerifyStored(first, newest);
    tx.writes.push(storePairs(pairs));
    this.#answers.store(tx);
  }
}
