/** The codes of users, as a list of requests or attempts shares them inside one transaction. */
import { insertOtps, updateOtps } from '../db/otps.ts';
import type { Otp } from '../db/otps.ts';
import type { Transaction } from '../db/transaction.ts';

const NO_OTPS: readonly Otp[] = Object.freeze([]);

/** Codes by user: those that were loaded, as decisions have changed them. */
export class OtpBook {
  readonly #otps = new Map<string, Otp[]>();
  readonly #loaded = new Set<string>();
  readonly #changed = new Map<string, Otp>();

  /** @param loaded all codes of all users of the list */
  constructor(loaded: readonly Otp[]) {
    for (const otp of loaded) {
      this.#loaded.add(rowKey(otp));
      this.#add(otp);
    }
  }

  /** All codes of a user. */
  of(userId: string): readonly Otp[] {
    return this.#otps.get(userId) ?? NO_OTPS;
  }

  /** Takes a code into its row. */
  put(otp: Otp): void {
    const others = this.of(otp.userId).filter(({ slot }) => slot !== otp.slot);
    this.#otps.set(otp.userId, others);
    this.#add(otp);
    this.#changed.set(rowKey(otp), otp);
  }

  /** The rows that were put, each as it is now. */
  get changed(): readonly Otp[] {
    return [...this.#changed.values()];
  }

  /** Leaves the writes of what was put to the transaction. */
  store(tx: Transaction): void {
    const known: Otp[] = [];
    const fresh: Otp[] = [];
    for (const [key, otp] of this.#changed) (this.#loaded.has(key) ? known : fresh).push(otp);
    if (known.length > 0) tx.writes.push(updateOtps(known));
    if (fresh.length === 0) return;
    fresh.sort((a, b) => (a.userId < b.userId ? -1 : 1));
    tx.writes.push(insertOtps(fresh));
  }

  #add(otp: Otp): void {
    const known = this.#otps.get(otp.userId);
    if (known === undefined) this.#otps.set(otp.userId, [otp]);
    else known.push(otp);
  }
}

function rowKey({ slot, userId }: Otp): string {
  return `${slot} ${userId}`;
}
