/** The answers stored under keys, as a list shares them inside one transaction. */
import type { Hex } from '../../db/query.ts';

/** Answers by key: those that were loaded, and those that decisions have added. */
export class StoredResponses<T extends Readonly<{ keyDigest: Hex }>> {
  readonly #answers: Map<Hex, T>;
  readonly #expiredKeys: Hex[] = [];

  /** @param loaded what the database holds, also what is expired */
  constructor(loaded: readonly T[]) {
    this.#answers = new Map(loaded.map((answer) => [answer.keyDigest, answer]));
  }

  /** What is stored under a key, or null. */
  find(keyDigest: Hex): T | null {
    return this.#answers.get(keyDigest) ?? null;
  }

  /** Adds an answer; one under the same key is expired, and must go before it is stored. */
  add(answer: T): void {
    const { keyDigest } = answer;
    if (this.#answers.has(keyDigest)) this.#expiredKeys.push(keyDigest);
    this.#answers.set(keyDigest, answer);
  }

  /** The keys of what was added that others had before. */
  get expiredKeys(): readonly Hex[] {
    return this.#expiredKeys;
  }
}
