/** The answers stored under keys, as a list of requests shares them inside one transaction. */
import { deleteExpiredAnswers, storeAnswers } from '../db/idempotency-keys.ts';
import type { StoredAnswer } from '../db/idempotency-keys.ts';
import type { Transaction } from '../db/transaction.ts';
import { bytesKey } from './map-keys.ts';

/** Answers by key: those that were loaded, and those that decisions have added. */
export class AnswerBook {
  readonly #answers: Map<string, StoredAnswer>;
  readonly #added: StoredAnswer[] = [];
  readonly #staleKeys: Buffer[] = [];

  /** @param loaded what the database holds, also what is expired */
  constructor(loaded: readonly StoredAnswer[]) {
    this.#answers = new Map(loaded.map((answer) => [bytesKey(answer.keyDigest), answer]));
  }

  /** What is stored under a key, or null. */
  find(keyDigest: Buffer): StoredAnswer | null {
    return this.#answers.get(bytesKey(keyDigest)) ?? null;
  }

  /** Adds an answer; one under the same key is expired, and is deleted before it is stored. */
  add(answer: StoredAnswer): void {
    const key = bytesKey(answer.keyDigest);
    if (this.#answers.has(key)) this.#staleKeys.push(answer.keyDigest);
    this.#answers.set(key, answer);
    this.#added.push(answer);
  }

  /** Leaves the writes of what was added to the transaction. */
  store(tx: Transaction): void {
    if (this.#added.length === 0) return;
    if (this.#staleKeys.length > 0) tx.writes.push(deleteExpiredAnswers(this.#staleKeys));
    this.#added.sort((a, b) => Buffer.compare(a.keyDigest, b.keyDigest));
    tx.writes.push(storeAnswers(this.#added));
  }
}
