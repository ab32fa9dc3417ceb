/**
 * Whether a list of requests reads what is stored under its keys before it decides. Nearly every
 * key is new, and whether it is, the index of the keys tells when the answer is stored: when one
 * was not new after all, nothing of the list is kept, and it is decided again with all that is
 * stored. So a list does without, until one has shown that it was needed.
 */

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
