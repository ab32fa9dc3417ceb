/**
 * The rows of one batch of requests: loaded once, changed by each decision in the order of arrival,
 * written once.
 */
import { OtpRows } from '../batch/otps.ts';
import type { Instant } from '../../db/instant.ts';
import { freeExpiredKeys, isRequestStored } from '../../db/tables/idempotency-keys.ts';
import type { StoredRequest } from '../../db/tables/idempotency-keys.ts';
import type { Otp } from '../../db/tables/otps.ts';
import type { Transaction } from '../../db/transaction.ts';
import type { PreparedRequest, RequestState, RequestWrites } from './decide.ts';
import type { LoadedState } from './state.ts';

export class RequestBatch {
  /** The database's clock, read when the locks were held. */
  readonly now: Instant;
  readonly #state: LoadedState<Otp>;
  readonly #otps: OtpRows;
  #firstIssued: StoredRequest | null = null;

  constructor(state: LoadedState<Otp>) {
    this.now = state.now;
    this.#state = state;
    this.#otps = new OtpRows(state.otps);
  }

  /** The state of a request, as the decisions on the requests before it have left it. */
  stateFor({ keyDigest, userId, clientIp, appliedLimits }: PreparedRequest): RequestState {
    const { now, stored, ipLimits, extraLimits } = this.#state;
    return {
      now,
      stored: stored.find(keyDigest),
      otps: this.#otps.of(userId),
      ipWindow: clientIp === null ? null : ipLimits.of(clientIp),
      hitWindows: extraLimits.of(appliedLimits),
    };
  }

  apply({ clientIp, appliedLimits }: PreparedRequest, writes: RequestWrites): void {
    const { issued, attemptsMoved, obsolete, keyOnly, ipChange } = writes;
    const { stored, ipLimits, extraLimits } = this.#state;
    stored.add(issued);
    for (const otp of obsolete) this.#otps.remove(otp);
    for (const otp of keyOnly) this.#otps.stripToKey(otp);
    this.#otps.put(issued);
    if (attemptsMoved !== null) this.#otps.put(attemptsMoved);
    if (clientIp !== null && ipChange !== null) ipLimits.put(clientIp, ipChange);
    extraLimits.add(appliedLimits, this.now);
    this.#firstIssued ??= issued;
  }

  /** Adds the writes, each row once and each table in one statement, and the commit probe. */
  flush(tx: Transaction): void {
    const first = this.#firstIssued;
    if (first === null) return;
    const { stored, ipLimits, extraLimits } = this.#state;
    tx.commitProbe(isRequestStored(first.keyDigest, first.otpId));
    extraLimits.eraseExpired(tx);
    const { expiredKeys } = stored;
    if (expiredKeys.length > 0) tx.writes.push(freeExpiredKeys(expiredKeys));
    this.#otps.flush(tx);
    ipLimits.flush(tx);
    extraLimits.flush(tx);
  }
}
