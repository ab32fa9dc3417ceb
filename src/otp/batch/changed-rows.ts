/** Rows of one table between the statement that reads them and the statements that write them. */
import { byKey } from '../../db/query.ts';
import type { Hex } from '../../db/query.ts';

/** Groups rows by a string key, keeping their order. */
export function groupBy<T>(rows: readonly T[], keyOf: (row: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const row of rows) {
    const group = groups.get(keyOf(row));
    if (group === undefined) groups.set(keyOf(row), [row]);
    else group.push(row);
  }
  return groups;
}

/** Collects the final state of each changed row, so that each row is written once. */
export class ChangedRows<T> {
  readonly #keyOf: (row: T) => string;
  readonly #loaded: ReadonlySet<string>;
  readonly #changed = new Map<string, T>();
  readonly #removed = new Map<string, T>();

  /**
   * @param loaded the stored rows, which are locked
   * @param keyOf a string form of the primary key
   */
  constructor(loaded: readonly T[], keyOf: (row: T) => string) {
    this.#keyOf = keyOf;
    this.#loaded = new Set(loaded.map(keyOf));
  }

  put(row: T): void {
    this.#changed.set(this.#keyOf(row), row);
  }

  remove(row: T): void {
    const key = this.#keyOf(row);
    this.#changed.delete(key);
    if (this.#loaded.has(key)) this.#removed.set(key, row);
  }

  /** The changed rows, in the order of their first change. */
  get all(): readonly T[] {
    return [...this.#changed.values()];
  }

  /** Splits by statement. Added rows are sorted: inserts in one order do not deadlock. */
  split(sortKeyOf: (row: T) => string): Readonly<{ stored: T[]; added: T[]; removed: T[] }> {
    const stored: T[] = [];
    const added: T[] = [];
    for (const [key, row] of this.#changed) (this.#loaded.has(key) ? stored : added).push(row);
    added.sort(byKey(sortKeyOf));
    return { stored, added, removed: [...this.#removed.values()] };
  }
}

/** The responses stored under the idempotency keys of one batch. */
export class StoredResponses<T extends Readonly<{ keyDigest: Hex }>> {
  readonly #responses: Map<Hex, T>;
  readonly #expiredKeys: Hex[] = [];

  /** @param loaded the stored responses, expired or not */
  constructor(loaded: readonly T[]) {
    this.#responses = new Map(loaded.map((response) => [response.keyDigest, response]));
  }

  get all(): readonly T[] {
    return [...this.#responses.values()];
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

/** Clients that repeat requests repeat more of them: after one, this many batches look up keys. */
const BATCHES_WITH_LOOKUP = 64;

/**
 * Optimistic idempotency check. Nearly every key is new, and the unique index on keys rejects a
 * used one, so a batch skips the lookup of its keys until a key turns out to be used. A batch that
 * would refuse a request is decided again with the lookup: the request may be a repeat.
 */
export class OptimisticKeyCheck {
  #batchesWithLookup = 0;

  /** Makes the next batches look up their keys. */
  onUsedKey(): void {
    this.#batchesWithLookup = BATCHES_WITH_LOOKUP;
  }

  /** @param isFinal whether a result of `decide` without the lookup holds with the lookup too */
  async run<T>(
    decide: (readsKeys: boolean) => Promise<T>,
    isFinal: (decided: T) => boolean,
  ): Promise<T> {
    if (this.#batchesWithLookup === 0) {
      const decided = await decide(false);
      if (isFinal(decided)) return decided;
      this.onUsedKey();
    } else this.#batchesWithLookup -= 1;
    return decide(true);
  }
}
