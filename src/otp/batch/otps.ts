/**
 * The OTPs of users that one transaction has read and will write. All decisions of a batch share
 * these rows, so that each decision sees what the decisions before it have changed.
 */
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

export class OtpRows {
  readonly #otps: Map<string, Otp[]>;
  readonly #changed: ChangedRows<Otp>;
  readonly #keyOnly = new Set<Otp>();

  /** @param loaded all OTPs of the users of the batch */
  constructor(loaded: readonly Otp[]) {
    this.#otps = groupBy(loaded, userOf);
    this.#changed = new ChangedRows(loaded, ({ number, userId }) => `${number} ${userId}`);
  }

  of(userId: string): readonly Otp[] {
    return this.#otps.get(userId) ?? NO_OTPS;
  }

  /** Null when the OTP is not stored, or a decision has removed it. */
  find(userId: string | undefined, otpId: Hex): Otp | null {
    if (userId === undefined) return null;
    return this.of(userId).find((otp) => otp.otpId === otpId) ?? null;
  }

  put(otp: Otp): void {
    this.#otps.set(otp.userId, [...this.#others(otp), otp]);
    this.#changed.put(otp);
  }

  remove(otp: Otp): void {
    this.#otps.set(otp.userId, this.#others(otp));
    this.#changed.remove(otp);
  }

  /** Removes an OTP but keeps its idempotency key. */
  stripToKey(otp: Otp): void {
    this.remove(otp);
    this.#keyOnly.add(otp);
  }

  #others({ userId, number }: Otp): Otp[] {
    return this.of(userId).filter((other) => other.number !== number);
  }

  get changed(): readonly Otp[] {
    return this.#changed.all;
  }

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
   * Does the same after verifications, which change few columns: one statement for all rows with
   * the same values, which most rows share.
   */
  flushAttempts(tx: Transaction): void {
    for (const alike of groupBy(this.changed, attemptsOf).values()) {
      tx.writes.push(storeAttempts(alike));
    }
  }
}

/** The columns that a verification changes, except its verify id. */
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
