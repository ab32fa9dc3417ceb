/** The codes of users, as a list of requests or attempts shares them inside one transaction. */
import { ChangedRows, groupBy } from './changed-rows.ts';
import { fingerprintRequest } from '../crypto/secrets.ts';
import type { Hex } from '../../db/query.ts';
import {
  deleteOtps, insertOtps, stripToKeys, storeAttempts, updateOtps,
} from '../../db/tables/otps-write.ts';
import type { KeyOnlyOtp } from '../../db/tables/otps-write.ts';
import type { Otp } from '../../db/tables/otps.ts';
import type { Transaction } from '../../db/transaction.ts';

const NO_OTPS: readonly Otp[] = Object.freeze([]);

/** Codes by user: those that were loaded, as decisions have changed them. */
export class OtpRows {
  readonly #otps: Map<string, Otp[]>;
  readonly #changed: ChangedRows<Otp>;
  readonly #keyOnly = new Set<Otp>();

  /** @param loaded all codes of all users of the list */
  constructor(loaded: readonly Otp[]) {
    this.#otps = groupBy(loaded, userOf);
    this.#changed = new ChangedRows(loaded, ({ number, userId }) => `${number} ${userId}`);
  }

  /** All codes of a user. */
  of(userId: string): readonly Otp[] {
    return this.#otps.get(userId) ?? NO_OTPS;
  }

  /** The code of that name, or null: it may have been taken away by now. */
  find(userId: string | undefined, otpId: Hex): Otp | null {
    if (userId === undefined) return null;
    return this.of(userId).find((otp) => otp.otpId === otpId) ?? null;
  }

  /** Takes a code as it shall be. */
  put(otp: Otp): void {
    this.#otps.set(otp.userId, [...this.#others(otp), otp]);
    this.#changed.put(otp);
  }

  /** Takes a code away. */
  remove(otp: Otp): void {
    this.#otps.set(otp.userId, this.#others(otp));
    this.#changed.remove(otp);
  }

  /** Takes a code away, and keeps its key. */
  stripToKey(otp: Otp): void {
    this.remove(otp);
    this.#keyOnly.add(otp);
  }

  #others({ userId, number }: Otp): Otp[] {
    return this.of(userId).filter((other) => other.number !== number);
  }

  /** The rows that were put, each as it is now. */
  get changed(): readonly Otp[] {
    return this.#changed.all;
  }

  /** Leaves the writes of what was put to the transaction. */
  flush(tx: Transaction): void {
    const { stored, added, removed } = this.#changed.split(userOf);
    const stripped = removed.filter((otp) => this.#keyOnly.has(otp));
    const deleted = removed.filter((otp) => !this.#keyOnly.has(otp));
    if (stripped.length > 0) tx.writes.push(stripToKeys(stripped.map(withFingerprint)));
    if (deleted.length > 0) tx.writes.push(deleteOtps(deleted));
    if (stored.length > 0) tx.writes.push(updateOtps(stored));
    if (added.length > 0) tx.writes.push(insertOtps(added));
  }

  /**
   * The same where attempts of one name were all that changed codes: those that came out alike, as
   * most do, in one statement.
   */
  flushAttempts(tx: Transaction): void {
    for (const alike of groupBy(this.changed, attemptsOf).values()) {
      tx.writes.push(storeAttempts(alike));
    }
  }
}

/** What attempts write of a code, but for their name, as a text. */
function attemptsOf(otp: Otp): string {
  const { digest, redeemedAt, wrongAttempts, lastWrongAt, lockedUntil, consecutiveWrong } = otp;
  return [digest === null, redeemedAt, wrongAttempts, lastWrongAt, lockedUntil, consecutiveWrong]
    .join(' ');
}

function withFingerprint(otp: Otp): KeyOnlyOtp {
  return { otp, fingerprint: fingerprintRequest(otp.userId, otp.purpose) };
}

function userOf({ userId }: Otp): string {
  return userId;
}
