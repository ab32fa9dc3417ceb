/** The answers stored under keys, as a list shares them inside one transaction. */
import type { Hex } from '../../db/query.ts';

/** Answers by key: those that were loaded, and those that decisions have added. */
export class StoredResponses<T extends Readonly<{ keyDigest: Hex }>> {
  readonly #responses: Map<Hex, T>;
  readonly #expiredKeys: Hex[] = [];

  /** @param loaded what the database holds, also what is expired */
  constructor(loaded: readonly T[]) {
    this.#responses = new Map(loaded.map((response) => [response.keyDigest, response]));
  }

  /** What is stored under a key, or null. */
  find(keyDigest: Hex): T | null {
    return this.#responses.get(keyDigest) ?? null;
  }

  /** Adds an response; one under the same key is expired, and must go before it is stored. */
  add(response: T): void {
    const { keyDigest } = response;
    if (this.#responses.has(keyDigest)) this.#expiredKeys.push(keyDigest);
    this.#responses.set(keyDigest, response);
  }

  /** The keys of what was added that others had before. */
  get expiredKeys(): readonly Hex[] {
    return this.#expiredKeys;
  }
}
