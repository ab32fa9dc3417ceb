/**
 * Who was refused lately, by this process: a hint that the next answer is likely a refusal too,
 * and can be found the cheap way. Nothing is decided by it, and forgetting is always right.
 */

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
