/** Rows of one table, as they come from one statement and go back by another. */
/** Rows told apart by a text that each of them has, in their order. */
export function groupBy<T>(rows: readonly T[], textOf: (row: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const row of rows) {
    const group = groups.get(textOf(row));
    if (group === undefined) groups.set(textOf(row), [row]);
    else group.push(row);
  }
  return groups;
}

/** Compares rows by a string key, in the order of UTF-16 code units; equal keys give 0. */
export function byKey<T>(keyOf: (row: T) => string): (a: T, b: T) => number {
  return (a, b) => {
    const first = keyOf(a);
    const second = keyOf(b);
    return first < second ? -1 : Number(first > second);
  };
}

/** The rows that decisions have changed, each once, as it was changed last. */
export class ChangedRows<T> {
  readonly #keyOf: (row: T) => string;
  readonly #loaded: ReadonlySet<string>;
  readonly #changed = new Map<string, T>();
  readonly #removed = new Map<string, T>();

  /**
   * @param loaded the rows that exist, and are locked
   * @param keyOf a text for the primary key of a row
   */
  constructor(loaded: readonly T[], keyOf: (row: T) => string) {
    this.#keyOf = keyOf;
    this.#loaded = new Set(loaded.map(keyOf));
  }

  /** Takes a row as it shall be. */
  put(row: T): void {
    this.#changed.set(this.#keyOf(row), row);
  }

  /** Takes away a row. */
  remove(row: T): void {
    const key = this.#keyOf(row);
    this.#changed.delete(key);
    if (this.#loaded.has(key)) this.#removed.set(key, row);
  }

  /** All of them, in the order in which they were first changed. */
  get all(): readonly T[] {
    return [...this.#changed.values()];
  }

  /**
   * Those that exist, and those that do not, by their subject: sorted, so that transactions never
   * wait for each other in a ring; and those that shall not exist any more.
   */
  split(subjectOf: (row: T) => string): Readonly<{ known: T[]; fresh: T[]; removed: T[] }> {
    const known: T[] = [];
    const fresh: T[] = [];
    for (const [key, row] of this.#changed) (this.#loaded.has(key) ? known : fresh).push(row);
    fresh.sort(byKey(subjectOf));
    return { known, fresh, removed: [...this.#removed.values()] };
  }
}
