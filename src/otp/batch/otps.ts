/**
 * The OTPs of users that one transaction has read and will write, and the counts of wrong attempts
 * that outlast them. All decisions of a batch share these rows, so that each decision sees what the
 * decisions before it have changed.
 */
import { ChangedRows, groupBy } from './changed-rows.ts';
import {
  areOfOnePurpose, digestCountedUser, fingerprintRequest, nameAccountLock, nameCount,
} from '../crypto/secrets.ts';
import type { Secrets } from '../crypto/secrets.ts';
import { byKey, mapResult } from '../../db/query.ts';
import type { Hex, Query } from '../../db/query.ts';
import type { KeptCounts } from '../../db/sweep/expired-rows.ts';
import { readRevocations } from '../../db/tables/device-revocations.ts';
import type { DeviceRevocation } from '../../db/tables/device-revocations.ts';
import {
  deleteOtps, insertOtps, stripToKeys, storeAttempts, updateOtps,
} from '../../db/tables/otps-write.ts';
import type { KeyOnlyOtp } from '../../db/tables/otps-write.ts';
import type { Otp, PairName } from '../../db/tables/otps.ts';
import {
  deleteWrongCounts, lockAccounts, lockWrongCounts, readWrongCounts, UNTRUSTED_LOCK,
} from '../../db/tables/wrong-counts.ts';
import type { AccountLock, CountName, WrongCount } from '../../db/tables/wrong-counts.ts';
import type { Transaction } from '../../db/transaction.ts';
import type { Policies } from '../policy/policy.ts';

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

/** What the sweep keeps of OTPs that it removes. */
export function keptCounts(secrets: Secrets, policies: Policies): KeptCounts {
  return {
    nameOf: (pair) => nameCount(secrets.current, pair),
    lockedFrom: () => policies.default.wrongAttemptsUntilUnlock,
  };
}

const NO_COUNTS: readonly WrongCount[] = Object.freeze([]);
const NO_LOCKS: ReadonlyMap<string, AccountLock> = new Map();

/** The counts of pairs whose OTPs have been swept, one at most of each, and locks of accounts. */
export class WrongCountRows {
  readonly #secrets: Secrets;
  readonly #byUser = new Map<Hex, WrongCount[]>();
  readonly #taken = new Set<WrongCount>();

  constructor(secrets: Secrets) {
    this.#secrets = secrets;
  }

  /** @param userIds unique, at least one */
  query(userIds: readonly string[], lock: boolean): Query<void> {
    const secrets = [...this.#secrets.byId.values()];
    const digests = userIds.flatMap((userId) =>
      secrets.map((secret) => digestCountedUser(secret, userId)));
    return mapResult(lock ? lockWrongCounts(digests) : readWrongCounts(digests), (found) => {
      for (const [user, counts] of groupBy(found, ({ userDigest }) => userDigest)) {
        this.#byUser.set(user, counts);
      }
    });
  }

  /** The counts of a user, of all purposes, without the lock of the account. */
  ofUser(userId: string): readonly number[] {
    return this.#ofAccount(userId).filter((one) => !isAccountLock(one))
      .map(({ consecutiveWrong }) => consecutiveWrong);
  }

  /**
   * The consecutive wrong attempts of a user that no otps row has, of all pairs; usually 0. More
   * than any limit when the account is locked for the client.
   *
   * @param client `device` is '' for an untrusted client
   */
  ofAccount({ userId, device }: Pick<PairName, 'userId' | 'device'>): number {
    if (this.#byUser.size === 0) return 0;
    const rows = this.#ofAccount(userId);
    return sumOf(device === '' ? rows
      : rows.filter(({ consecutiveWrong }) => consecutiveWrong !== UNTRUSTED_LOCK));
  }

  /** The consecutive wrong attempts of a pair that no otps row has; usually 0. */
  of(pair: PairName): number {
    return sumOf(this.#find(pair));
  }

  /** Removes the count of a pair, which an OTP has taken over. */
  take(pair: PairName): void {
    for (const count of this.#find(pair)) this.#taken.add(count);
  }

  /** Removes the counts of a purpose, also those of devices of which nothing else is stored. */
  takePurpose(userId: string, purpose: string): void {
    const names = this.#namesOf({ userId, purpose, device: '' });
    for (const count of this.#ofAccount(userId)) {
      if (isAccountLock(count)) continue;
      if (names.some((name) => areOfOnePurpose(name, count))) this.#taken.add(count);
    }
  }

  /** Removes all counts of a user, and the lock of the account. */
  takeAccount(userId: string): void {
    for (const count of this.#ofAccount(userId)) this.#taken.add(count);
  }

  get hasTaken(): boolean {
    return this.#taken.size > 0;
  }

  /** Removes the lock of an account, and no count. */
  takeAccountLock(userId: string): void {
    for (const one of this.#ofAccount(userId)) if (isAccountLock(one)) this.#taken.add(one);
  }

  /** @param locks the accounts that a decision has locked, by user */
  flush(tx: Transaction, locks: ReadonlyMap<string, AccountLock> = NO_LOCKS): void {
    if (this.#taken.size > 0) tx.writes.push(deleteWrongCounts([...this.#taken]));
    for (const lock of new Set(locks.values())) {
      const names = [...locks].filter(([, one]) => one === lock)
        .map(([userId]) => nameAccountLock(this.#secrets.current, userId));
      tx.writes.push(lockAccounts(names.sort(byKey(({ userDigest }) => userDigest)), lock));
    }
  }

  #ofAccount(userId: string): readonly WrongCount[] {
    if (this.#byUser.size === 0) return NO_COUNTS;
    return [...this.#secrets.byId.values()].flatMap((secret) =>
      this.#byUser.get(digestCountedUser(secret, userId)) ?? NO_COUNTS)
      .filter((one) => !this.#taken.has(one));
  }

  #find(pair: PairName): readonly WrongCount[] {
    const ofAccount = this.#ofAccount(pair.userId);
    if (ofAccount.length === 0) return NO_COUNTS;
    const names = this.#namesOf(pair);
    return ofAccount.filter((one) => names.some((name) =>
      name.userDigest === one.userDigest && name.purposeDigest === one.purposeDigest));
  }

  #namesOf(pair: PairName): readonly CountName[] {
    return [...this.#secrets.byId.values()].map((secret) => nameCount(secret, pair));
  }
}

function sumOf(counts: readonly WrongCount[]): number {
  return counts.reduce((sum, { consecutiveWrong }) => sum + consecutiveWrong, 0);
}

function isAccountLock({ consecutiveWrong }: WrongCount): boolean {
  return consecutiveWrong >= UNTRUSTED_LOCK;
}

const NO_REVOCATIONS: readonly DeviceRevocation[] = Object.freeze([]);

/** The revoked devices of users who may be on a trusted device; nearly always none. */
export class RevocationRows {
  #byUser: ReadonlyMap<string, readonly DeviceRevocation[]> = new Map();

  /** @param userIds unique, at least one */
  query(userIds: readonly string[]): Query<void> {
    return mapResult(readRevocations(userIds), (found) => {
      this.#byUser = groupBy(found, ({ userId }) => userId);
    });
  }

  of(userId: string): readonly DeviceRevocation[] {
    return this.#byUser.get(userId) ?? NO_REVOCATIONS;
  }
}
