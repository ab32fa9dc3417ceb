/**
 * The rows of one batch of verifications: loaded once, changed by each decision in the order of
 * arrival, written once. A right code locks its user only. A batch with a wrong code also locks
 * the counters that count it, and is decided again with the locked counts.
 */
import { ExtraLimitRows } from '../batch/extra-limits.ts';
import { OtpRows, RevocationRows, WrongCountRows } from '../batch/otps.ts';
import { isKeyErased, isVerifyStored } from './commit-probe.ts';
import { trustedDevice } from '../crypto/devices.ts';
import type { Secrets } from '../crypto/secrets.ts';
import { READ_CLOCK } from '../../db/clock.ts';
import type { Instant } from '../../db/instant.ts';
import { byKey, mapResult } from '../../db/query.ts';
import type { Hex, Query } from '../../db/query.ts';
import {
  deleteVerifications, eraseVerifications, loadStoredVerifications, lockStoredVerifications,
  storeVerifications,
} from '../../db/tables/idempotency-keys.ts';
import type { StoredVerification } from '../../db/tables/idempotency-keys.ts';
import { clampHits } from '../../db/tables/limit-hits.ts';
import { clampOtps } from '../../db/tables/otps-write.ts';
import { lockOtps } from '../../db/tables/otps.ts';
import type { Otp } from '../../db/tables/otps.ts';
import { UNTRUSTED_LOCK } from '../../db/tables/wrong-counts.ts';
import type { AccountLock } from '../../db/tables/wrong-counts.ts';
import type { Transaction } from '../../db/transaction.ts';
import { decideVerify } from './decide.ts';
import type { PreparedVerification, VerifyState, VerifyWrites } from './decide.ts';
import type { VerifyOutcome } from '../outcomes.ts';
import type { AppliedLimit, LimitName } from '../policy/policy.ts';
import { countAccountWrong, findKnownPair, isAhead } from '../rules/lifecycle.ts';

type Decided = Readonly<{ outcomes: VerifyOutcome[]; shadowed: readonly LimitName[] }>;

export class VerifyBatch {
  readonly #verifications: readonly PreparedVerification[];
  readonly #wrongCounts: WrongCountRows;
  readonly #limits: ExtraLimitRows;
  readonly #revocations = new RevocationRows();
  #now: Instant = 0;
  #loadedOtps: readonly Otp[] = [];
  readonly #loadedKeys = new Map<Hex, StoredVerification>();
  readonly #lockedKeys = new Set<Hex>();
  #otps = new OtpRows([]);
  /** The keys that decisions have changed. */
  readonly #changedKeys = new Map<Hex, StoredVerification>();
  /** The accounts that decisions have locked, by user. */
  readonly #accountLocks = new Map<string, AccountLock>();
  /** What the last decisions would write and no lock covers. */
  readonly #limitsToLock: AppliedLimit[] = [];
  readonly #keysToLock = new Set<Hex>();

  private constructor(verifications: readonly PreparedVerification[], secrets: Secrets) {
    this.#verifications = verifications;
    this.#wrongCounts = new WrongCountRows(secrets);
    const limits = verifications.flatMap(({ appliedLimits }) => appliedLimits);
    this.#limits = limits.length === 0 ? ExtraLimitRows.none : new ExtraLimitRows(limits);
  }

  /** Locks the OTPs of users and their kept counts; then reads counters, clock and keys. */
  static async load(
    tx: Transaction,
    verifications: readonly PreparedVerification[],
    secrets: Secrets,
  ): Promise<VerifyBatch> {
    const batch = new VerifyBatch(verifications, secrets);
    const users = [...new Set(verifications.map(({ userId }) => userId))];
    const trustsDevices = verifications.some(({ policy }) => policy.deviceDays !== null);
    const keys = new Set<Hex>();
    for (const { keyDigest } of verifications) if (keyDigest !== null) keys.add(keyDigest);
    const [otps] = await tx.read(
      lockOtps(users),
      batch.#wrongCounts.query(users, true),
      ...batch.#limits.peek(),
      ...(trustsDevices ? [batch.#revocations.query(users)] : []),
      batch.#readClock(),
      ...(keys.size === 0 ? [] : [batch.#takeKeys(loadStoredVerifications([...keys]))]),
    );
    batch.#loadedOtps = otps;
    const further = batch.#limits.readCounted();
    if (further.length > 0) await tx.read(...further, batch.#readClock());
    await batch.#clampOtps(tx, users);
    batch.#limitsToLock.push(...batch.#limits.ahead(batch.#now));
    return batch;
  }

  get now(): Instant {
    return this.#now;
  }

  /** Decides in order of arrival, on the rows as they were loaded. */
  decide(): Decided {
    this.#otps = new OtpRows(this.#loadedOtps);
    this.#changedKeys.clear();
    this.#accountLocks.clear();
    const shadowed: LimitName[] = [];
    const outcomes = this.#verifications.map((verification) => {
      const decision = decideVerify(this.#stateFor(verification), verification);
      const { outcome, writes } = decision;
      if (decision.shadowed !== undefined) shadowed.push(...decision.shadowed);
      if (writes !== null) this.#apply(verification, writes);
      return outcome;
    });
    return { outcomes, shadowed };
  }

  /**
   * Locks the counters and keys that the decisions would write, and reads them again.
   *
   * @returns false when all locks are held; true when the batch must be decided again, which may
   *   rarely show that it needs more locks
   */
  async lockRest(tx: Transaction): Promise<boolean> {
    if (this.#limitsToLock.length === 0 && this.#keysToLock.size === 0) return false;
    for (const key of this.#keysToLock) this.#lockedKeys.add(key);
    const keys = [...this.#lockedKeys];
    for (const key of keys) this.#loadedKeys.delete(key);
    await tx.read(
      ...this.#limits.lock(this.#limitsToLock, keys.length === 0 ? null : this.#now),
      ...(keys.length === 0 ? [] : [this.#takeKeys(lockStoredVerifications(keys))]),
      this.#readClock(),
    );
    await this.#clampHits(tx);
    this.#limitsToLock.length = 0;
    this.#keysToLock.clear();
    return true;
  }

  /** Sets times that the clock has not reached to now, as RequestBatch.load does. */
  async #clampOtps(tx: Transaction, users: readonly string[]): Promise<void> {
    if (!this.#loadedOtps.some((otp) => isAhead(otp, this.#now))) return;
    await tx.writeNow(clampOtps(users));
    [this.#loadedOtps] = await tx.read(lockOtps(users), this.#readClock());
  }

  async #clampHits(tx: Transaction): Promise<void> {
    const limits = this.#limits.ahead(this.#now);
    if (limits.length === 0) return;
    await tx.writeNow(clampHits(limits));
    await tx.read(...this.#limits.lock([]), this.#readClock());
  }

  #readClock(): Query<void> {
    return mapResult(READ_CLOCK, (time) => { this.#now = time; });
  }

  #takeKeys(query: Query<StoredVerification[]>): Query<void> {
    return mapResult(query, (found) => {
      for (const stored of found) this.#loadedKeys.set(stored.keyDigest, stored);
    });
  }

  /** The state of a verification, as the decisions on those before it have left it. */
  #stateFor(verification: PreparedVerification): VerifyState {
    const { userId, purpose, keyDigest, appliedLimits, claims, policy } = verification;
    const otps = this.#otps.of(userId);
    const revocations = this.#revocations.of(userId);
    const device = trustedDevice(claims, revocations, this.#now, policy.deviceDays);
    return {
      now: this.#now,
      stored: keyDigest === null ? null
        : this.#changedKeys.get(keyDigest) ?? this.#loadedKeys.get(keyDigest) ?? null,
      otps,
      device,
      pair: findKnownPair(otps, { purpose, device }, this.#now),
      accountWrong: countAccountWrong(otps, this.#wrongCounts.ofAccount({ userId, device }))
        + this.#addedLock(userId, device),
      hitWindows: this.#limits.of(appliedLimits),
    };
  }

  /** More than any limit when an earlier decision has locked the account for the client. */
  #addedLock(userId: string, device: Hex): number {
    const lock = this.#accountLocks.get(userId);
    return lock === undefined || (lock === UNTRUSTED_LOCK && device !== '') ? 0 : lock;
  }

  #apply({ userId, appliedLimits }: PreparedVerification, writes: VerifyWrites): void {
    const { pair, stored, isWrong, accountLock } = writes;
    if (pair !== null) this.#otps.put(pair);
    if (stored !== null) this.#putKey(stored);
    if (accountLock !== null) this.#accountLocks.set(userId, accountLock);
    if (!isWrong) return;
    if (this.#limits.areLocked(appliedLimits)) this.#limits.add(appliedLimits, this.#now);
    else this.#limitsToLock.push(...appliedLimits);
  }

  #putKey(stored: StoredVerification): void {
    const { keyDigest } = stored;
    this.#changedKeys.set(keyDigest, stored);
    const isLocked = this.#lockedKeys.has(keyDigest);
    if (!isLocked && this.#isErasure(stored)) this.#keysToLock.add(keyDigest);
  }

  /** A code is redeemed once, so another OTP means another verification. */
  #isErasure({ keyDigest, otpId }: StoredVerification): boolean {
    return this.#loadedKeys.get(keyDigest)?.otpId === otpId;
  }

  /** Adds the writes, each row once, and the commit probe; read-only when nothing changed. */
  flush(tx: Transaction): void {
    const { changed } = this.#otps;
    // All transactions write in one order, so that no two of them deadlock.
    const keys = [...this.#changedKeys.values()].sort(byKey(({ keyDigest }) => keyDigest));
    const erased = keys.filter((stored) => this.#isErasure(stored));
    if (changed.length === 0 && erased.length === 0) {
      tx.readOnly();
      return;
    }
    tx.commitProbe(changed.length > 0 ? isVerifyStored(changed) : isKeyErased(erased));
    this.#limits.eraseExpired(tx);
    this.#otps.flushAttempts(tx);
    this.#wrongCounts.flush(tx, this.#accountLocks);
    this.#limits.flush(tx);
    const added = keys.filter((stored) => !erased.includes(stored));
    const replaced = added.flatMap(({ keyDigest }) => this.#loadedKeys.get(keyDigest) ?? []);
    if (erased.length > 0) tx.writes.push(eraseVerifications(erased));
    if (replaced.length > 0) tx.writes.push(deleteVerifications(replaced));
    if (added.length > 0) tx.writes.push(storeVerifications(added));
  }
}
