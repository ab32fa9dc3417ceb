/** The responses stored under the idempotency keys of one batch. */
import type { Hex } from '../../db/query.ts';

export class StoredResponses<T extends Readonly<{ keyDigest: Hex }>> {
  readonly #responses: Map<Hex, T>;
  readonly #expiredKeys: Hex[] = [];

  /** @param loaded the stored responses, expired or not */
  constructor(loaded: readonly T[]) {
    this.#responses = new Map(loaded.map((response) => [response.keyDigest, response]));
  }

  find(keyDigest: Hex): T | null {
    return this.#responses.get(keyDigest) ?? null;
  }

  /** Adds a response. An earlier one under the same key has expired and is removed first. */
  add(response: T): void {
    const { keyDigest } = response;
    if (this.#responses.has(keyDigest)) this.#expiredKeys.push(keyDigest);
    this.#responses.set(keyDigest, response);
  }

  /** The keys whose earlier response must be removed. */
  get expiredKeys(): readonly Hex[] {
    return this.#expiredKeys;
  }
}
