/**
 * The rows of one batch of requests: loaded once, changed by each decision in the order of arrival,
 * written once.
 */
import type { StoredResponses } from '../batch/changed-rows.ts';
import type { ExtraLimitRows } from '../batch/extra-limits.ts';
import type { IpLimitRows } from '../batch/ip-limits.ts';
import { OtpRows } from '../batch/otps.ts';
import type { WrongCountRows } from '../batch/otps.ts';
import type { Instant } from '../../db/instant.ts';
import type { Write } from '../../db/query.ts';
import { freeExpiredKeys, isRequestStored } from '../../db/tables/idempotency-keys.ts';
import type { StoredRequest } from '../../db/tables/idempotency-keys.ts';
import { clampHits } from '../../db/tables/limit-hits.ts';
import { clampKeys, clampOtps } from '../../db/tables/otps-write.ts';
import type { Otp, OtpSummary } from '../../db/tables/otps.ts';
import type { Transaction } from '../../db/transaction.ts';
import { decideRequest } from './decide.ts';
import type { NewCode, PreparedRequest, RequestState, RequestWrites } from './decide.ts';
import type { RequestOutcome } from '../outcomes.ts';
import { isAhead } from '../rules/lifecycle.ts';

/** The rows of one batch of requests, all as of `now`. */
export type LoadedState<T extends OtpSummary> = Readonly<{
  now: Instant;
  /** The monotonic clock just before the database was asked for `now`. */
  askedAtMs: number;
  otps: readonly T[];
  wrongCounts: WrongCountRows;
  ipLimits: IpLimitRows;
  extraLimits: ExtraLimitRows;
  stored: StoredResponses<StoredRequest>;
}>;

export class RequestBatch {
  /** The database's clock, read when the locks were held. */
  readonly now: Instant;
  readonly askedAtMs: number;
  readonly #state: LoadedState<Otp>;
  readonly #otps: OtpRows;
  #firstIssued: StoredRequest | null = null;

  private constructor(state: LoadedState<Otp>) {
    this.now = state.now;
    this.askedAtMs = state.askedAtMs;
    this.#state = state;
    this.#otps = new OtpRows(state.otps);
  }

  /**
   * Loads the state, and once more after times in it that the clock has not reached were set to
   * now. They are committed with a refusal as well: otherwise each request would begin them again.
   */
  static async load(
    tx: Transaction,
    load: () => Promise<LoadedState<Otp>>,
  ): Promise<RequestBatch> {
    const state = await load();
    const clamps = listClamps(state);
    if (clamps.length === 0) return new RequestBatch(state);
    await tx.writeNow(...clamps);
    return new RequestBatch(await load());
  }

  /**
   * Decides in order of arrival.
   *
   * @returns one outcome for each request, and the indexes of the requests that got their code
   */
  decide(
    requests: readonly PreparedRequest[],
    codes: readonly NewCode[],
  ): Readonly<{ outcomes: RequestOutcome[]; issued: number[] }> {
    const issued: number[] = [];
    const outcomes = requests.map((request, index) => {
      const { outcome, writes } = decideRequest(this.#stateFor(request), request, codes[index]!);
      if (writes !== null) {
        this.#apply(request, writes);
        issued.push(index);
      }
      return outcome;
    });
    return { outcomes, issued };
  }

  /** The state of a request, as the decisions on the requests before it have left it. */
  #stateFor(request: PreparedRequest): RequestState {
    const { keyDigest, userId, purpose, slotLimits, appliedLimits } = request;
    const { now, stored, wrongCounts, ipLimits, extraLimits } = this.#state;
    return {
      now,
      stored: stored.find(keyDigest),
      otps: this.#otps.of(userId),
      keptWrong: wrongCounts.of(userId, purpose),
      keptAccountWrong: wrongCounts.ofAccount(userId),
      slotWindows: ipLimits.of(slotLimits),
      hitWindows: extraLimits.of(appliedLimits),
    };
  }

  #apply(request: PreparedRequest, writes: RequestWrites): void {
    const { userId, purpose, slotLimits, appliedLimits } = request;
    const { issued, attemptsMoved, obsolete, keyOnly, slotChanges } = writes;
    const { stored, wrongCounts, ipLimits, extraLimits } = this.#state;
    stored.add(issued);
    wrongCounts.take(userId, purpose);
    for (const otp of obsolete) this.#otps.remove(otp);
    for (const otp of keyOnly) this.#otps.stripToKey(otp);
    this.#otps.put(issued);
    if (attemptsMoved !== null) this.#otps.put(attemptsMoved);
    slotLimits.forEach(({ subject }, at) => ipLimits.put(subject, slotChanges[at]!));
    extraLimits.add(appliedLimits, this.now);
    this.#firstIssued ??= issued;
  }

  /** Adds the writes, each row once and each table in one statement, and the commit probe. */
  flush(tx: Transaction): void {
    const first = this.#firstIssued;
    if (first === null) return;
    const { stored, wrongCounts, ipLimits, extraLimits } = this.#state;
    tx.commitProbe(isRequestStored(first.keyDigest, first.otpId));
    extraLimits.eraseExpired(tx);
    const { expiredKeys } = stored;
    if (expiredKeys.length > 0) tx.writes.push(freeExpiredKeys(expiredKeys));
    this.#otps.flush(tx);
    wrongCounts.flush(tx);
    ipLimits.flush(tx);
    extraLimits.flush(tx);
  }
}

function listClamps({ now, otps, ipLimits, extraLimits, stored }: LoadedState<Otp>): Write[] {
  const users = new Set(otps.filter((otp) => isAhead(otp, now)).map(({ userId }) => userId));
  const keys = stored.all.filter(({ createdAt }) => createdAt > now);
  const limits = extraLimits.ahead(now);
  return [
    ...(users.size === 0 ? [] : [clampOtps([...users])]),
    ...ipLimits.clamps(now),
    ...(limits.length === 0 ? [] : [clampHits(limits)]),
    ...(keys.length === 0 ? [] : [clampKeys(keys.map(({ keyDigest }) => keyDigest))]),
  ];
}
