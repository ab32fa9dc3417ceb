/**
 * The rows of one batch of verifications: loaded once, changed by each decision in the order of
 * arrival, written once.
 */
import { ExtraLimitRows } from '../batch/extra-limits.ts';
import { OtpRows } from '../batch/otps.ts';
import { StoredResponses } from '../batch/stored-responses.ts';
import { isVerifyStored } from './commit-probe.ts';
import { READ_CLOCK } from '../../db/clock.ts';
import type { Instant } from '../../db/instant.ts';
import { byKey, mapResult } from '../../db/query.ts';
import type { Hex } from '../../db/query.ts';
import {
  deleteExpiredVerifications, loadStoredVerifications, storeVerifications,
} from '../../db/tables/idempotency-keys.ts';
import type { StoredVerification } from '../../db/tables/idempotency-keys.ts';
import { lockOtps } from '../../db/tables/otps.ts';
import type { Otp } from '../../db/tables/otps.ts';
import type { Transaction } from '../../db/transaction.ts';
import type { PreparedVerification, VerifyState, VerifyWrites } from './decide.ts';
import { findKnownPair } from '../rules/lifecycle.ts';

export class VerifyBatch {
  readonly #now: Instant;
  readonly #stored: StoredResponses<StoredVerification>;
  /** The stored verifications that this batch adds. */
  readonly #added: StoredVerification[] = [];
  readonly #otps: OtpRows;
  readonly #extraLimits: ExtraLimitRows;

  private constructor(
    now: Instant,
    stored: readonly StoredVerification[],
    otps: readonly Otp[],
    extraLimits: ExtraLimitRows,
  ) {
    this.#now = now;
    this.#stored = new StoredResponses(stored);
    this.#otps = new OtpRows(otps);
    this.#extraLimits = extraLimits;
  }

  /** Locks OTPs of users, then hit counters; reads clock and keys when the locks are held. */
  static async load(
    tx: Transaction,
    verifications: readonly PreparedVerification[],
  ): Promise<VerifyBatch> {
    const users = new Set(verifications.map(({ userId }) => userId));
    const keys = new Set<Hex>();
    for (const { keyDigest } of verifications) if (keyDigest !== null) keys.add(keyDigest);
    const limits = verifications.flatMap(({ appliedLimits }) => appliedLimits);
    const extraLimits = limits.length === 0 ? ExtraLimitRows.none : new ExtraLimitRows(limits);
    let now: Instant = 0;
    let stored: readonly StoredVerification[] = [];
    const [otps] = await tx.read(
      lockOtps([...users]),
      ...(limits.length === 0 ? [] : extraLimits.queries(true)),
      mapResult(READ_CLOCK, (time) => { now = time; }),
      mapResult(loadStoredVerifications([...keys]), (found) => { stored = found; }),
    );
    return new VerifyBatch(now, stored, otps, extraLimits);
  }

  /** The state of a verification, as the decisions on those before it have left it. */
  stateFor({ userId, purpose, keyDigest, appliedLimits }: PreparedVerification): VerifyState {
    return {
      now: this.#now,
      stored: keyDigest === null ? null : this.#stored.find(keyDigest),
      pair: findKnownPair(this.#otps.of(userId), purpose, this.#now),
      hitWindows: this.#extraLimits.of(appliedLimits),
    };
  }

  apply({ appliedLimits }: PreparedVerification, { pair, stored, isWrong }: VerifyWrites): void {
    this.#otps.put(pair);
    if (isWrong) this.#extraLimits.add(appliedLimits, this.#now);
    if (stored === null) return;
    this.#stored.add(stored);
    this.#added.push(stored);
  }

  /** Adds the writes, each row once, and the commit probe; read-only when nothing changed. */
  flush(tx: Transaction): void {
    const { changed } = this.#otps;
    if (changed.length === 0) {
      tx.readOnly();
      return;
    }
    tx.commitProbe(isVerifyStored(changed));
    this.#extraLimits.eraseExpired(tx);
    this.#otps.flushAttempts(tx);
    this.#extraLimits.flush(tx);
    const { expiredKeys } = this.#stored;
    // All transactions insert in one order, so that no two of them deadlock.
    const added = this.#added.sort(byKey(({ keyDigest }) => keyDigest));
    if (expiredKeys.length > 0) tx.writes.push(deleteExpiredVerifications(expiredKeys));
    if (added.length > 0) tx.writes.push(storeVerifications(added));
  }
}
