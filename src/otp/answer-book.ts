/** The answers stored under keys, as a list of requests shares them inside one transaction. */
import type { Hex } from '../db/hex.ts';
import { deleteExpiredAnswers, storeAnswers } from '../db/idempotency-keys.ts';
import type { StoredAnswer } from '../db/idempotency-keys.ts';
import type { Transaction } from '../db/transaction.ts';

/** Answers by key: those that were loaded, and those that decisions have added. */
export class AnswerBook {
  readonly #answers: Map<string, StoredAnswer>;
  readonly #added: StoredAnswer[] = [];
  readonly #staleKeys: Hex[] = [];

  /** @param loaded what the database holds, also what is expired */
  constructor(loaded: readonly StoredAnswer[]) {
    this.#answers = new Map(loaded.map((answer) => [answer.keyDigest, answer]));
  }

  /** What is stored under a key, or null. */
  find(keyDigest: Hex): StoredAnswer | null {
    return this.#answers.get(keyDigest) ?? null;
  }

  /** Adds an answer; one under the same key is expired, and is deleted before it is stored. */
  add(answer: StoredAnswer): void {
    const { keyDigest } = answer;
    if (this.#answers.has(keyDigest)) this.#staleKeys.push(keyDigest);
    this.#answers.set(keyDigest, answer);
    this.#added.push(answer);
  }

  /** Leaves the writes of what was added to the transaction. */
  store(tx: Transaction): void {
    if (this.#added.length === 0) return;
    if (this.#staleKeys.length > 0) tx.writes.push(deleteExpiredAnswers(this.#staleKeys));
    this.#added.sort((a, b) => (a.keyDigest < b.keyDigest ? -1 : 1));
    tx.writes.push(storeAnswers(this.#added));
  }
}
