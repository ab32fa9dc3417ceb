/**
 * The rows of one batch of requests: loaded once, changed by each decision in the order of arrival,
 * written once.
 */
import { StoredResponses } from '../batch/changed-rows.ts';
import { ExtraLimitRows } from '../batch/extra-limits.ts';
import { IpLimitRows } from '../batch/ip-limits.ts';
import { OtpRows, RevocationRows, WrongCountRows } from '../batch/otps.ts';
import type { Secrets } from '../crypto/secrets.ts';
import { monotonicMs, READ_CLOCK } from '../../db/clock.ts';
import { addSeconds } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import { mapResult } from '../../db/query.ts';
import type { Query, Write } from '../../db/query.ts';
import {
  freeExpiredKeys, isRequestStored, loadStoredRequests,
} from '../../db/tables/idempotency-keys.ts';
import type { StoredRequest } from '../../db/tables/idempotency-keys.ts';
import { lockSlots, readSlots } from '../../db/tables/ip-limits.ts';
import type { IpLimitSlot } from '../../db/tables/ip-limits.ts';
import { clampHits } from '../../db/tables/limit-hits.ts';
import { clampKeys, clampOtps } from '../../db/tables/otps-write.ts';
import { lockOtps, readOtpSummaries } from '../../db/tables/otps.ts';
import type { Otp, OtpSummary } from '../../db/tables/otps.ts';
import type { Transaction } from '../../db/transaction.ts';
import { decideRequest, identifyClient } from './decide.ts';
import type { NewCode, PreparedRequest, RequestState, RequestWrites } from './decide.ts';
import type { RequestOutcome } from '../outcomes.ts';
import type { SlotLimit } from '../rules/ip-limit.ts';
import { isAhead } from '../rules/lifecycle.ts';

/** The rows of one batch of requests, all as of `now`. */
type LoadedState<T extends OtpSummary> = Readonly<{
  now: Instant;
  /** The monotonic clock just before the database was asked for `now`. */
  askedAtMs: number;
  otps: readonly T[];
  wrongCounts: WrongCountRows;
  ipLimits: IpLimitRows;
  extraLimits: ExtraLimitRows;
  revocations: RevocationRows;
  stored: StoredResponses<StoredRequest>;
}>;

type Decided = Readonly<{
  identified: readonly PreparedRequest[];
  outcomes: RequestOutcome[];
  issued: number[];
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
   * @returns each request as that of its client, one outcome for each, and the indexes of the
   *   requests that got their code
   */
  decide(
    requests: readonly PreparedRequest[],
    codes: readonly NewCode[],
  ): Decided {
    const issued: number[] = [];
    const identified = requests.map((request) =>
      identifyClient(request, this.#state.revocations.of(request.userId), this.now));
    const outcomes = identified.map((request, index) => {
      const { outcome, writes } = decideRequest(this.#stateFor(request), request, codes[index]!);
      if (writes !== null) {
        this.#apply(request, writes);
        issued.push(index);
      }
      return outcome;
    });
    return { identified, outcomes, issued };
  }

  /** The state of a request, as the decisions on the requests before it have left it. */
  #stateFor(request: PreparedRequest): RequestState {
    const { keyDigest, userId, slotLimits, appliedLimits } = request;
    const { now, stored, wrongCounts, ipLimits, extraLimits } = this.#state;
    return {
      now,
      stored: stored.find(keyDigest),
      otps: this.#otps.of(userId),
      keptWrong: wrongCounts.of(request),
      keptAccountWrong: wrongCounts.ofAccount(request),
      slotWindows: ipLimits.of(slotLimits),
      hitWindows: extraLimits.of(appliedLimits),
    };
  }

  #apply(request: PreparedRequest, writes: RequestWrites): void {
    const { slotLimits, appliedLimits } = request;
    const { issued, attemptsMoved, obsolete, keyOnly, slotChanges } = writes;
    const { stored, wrongCounts, ipLimits, extraLimits } = this.#state;
    stored.add(issued);
    wrongCounts.take(request);
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

/** Longer than a transaction lasts: a later time was stored before the clock was set back. */
const READ_SECONDS = 3;

type LoadOptions<L extends boolean> = Readonly<{
  secrets: Secrets;
  lock: L;
  /** Whether to look up what is stored under the idempotency keys; always without a lock. */
  readsKeys?: boolean;
  /** Queries that use the round trip of the locks. */
  riding?: readonly Query<void>[];
}>;

/**
 * Loads state in one round trip, and in more only for subjects with an overflow. An empty list
 * yields no statement.
 *
 * With `lock`, the state is enough to grant. The lock order is OTPs of users, their kept counts,
 * slots, hit counters, each in the order of its index; then the clock is read.
 *
 * Without `lock`, the state is enough to refuse, and the transaction has ended. The clock is read
 * first and younger points in slots are left out, so that only what counts then refuses.
 * Counts are read before OTPs, so that a count that the sweep moves meanwhile is not added twice.
 * The keys are read last, so that an OTP that refuses a repeat of its own request is also found by
 * its key.
 */
export async function loadState<L extends boolean>(
  tx: Transaction,
  requests: readonly PreparedRequest[],
  { secrets, lock, readsKeys = true, riding = [] }: LoadOptions<L>,
): Promise<LoadedState<L extends true ? Otp : OtpSummary>> {
  const { users, subjects, keys, claimants } = collectNames(requests);
  const limits = requests.flatMap(({ appliedLimits }) => appliedLimits);
  const extraLimits = limits.length === 0 ? ExtraLimitRows.none : new ExtraLimitRows(limits);
  const wrongCounts = new WrongCountRows(secrets);
  const revocations = new RevocationRows();
  let now: Instant = 0;
  let otps: readonly OtpSummary[] = [];
  let slots: readonly IpLimitSlot[] = [];
  let stored: readonly StoredRequest[] = [];
  const clock = mapResult(READ_CLOCK, (time) => { now = time; });
  const readKeys = () => mapResult(loadStoredRequests(keys), (found) => { stored = found; });
  const ofUsers = [
    mapResult<readonly OtpSummary[], void>(lock ? lockOtps(users) : readOtpSummaries(users),
      (found) => { otps = found; }),
    wrongCounts.query(users, lock),
  ];
  const rows: readonly Query<void>[] = [
    ...(lock ? ofUsers : ofUsers.reverse()),
    mapResult(lock ? lockSlots(subjects) : readSlots(subjects), (found) => { slots = found; }),
    ...(limits.length === 0 ? [] : extraLimits.queries(lock)),
    ...(claimants.length === 0 ? [] : [revocations.query(claimants)]),
  ];
  const askedAtMs = monotonicMs();
  if (lock) await tx.read(...rows, clock, ...(readsKeys ? [readKeys()] : []), ...riding);
  else {
    await tx.readAndEnd(clock, ...rows, readKeys());
    slots = slots.filter(({ usedAt }) => usedAt <= now || usedAt > addSeconds(now, READ_SECONDS));
  }
  const ipLimits = new IpLimitRows(slots);
  const hasOverflow = await ipLimits.loadOverflow(lock ? tx.read : tx.readAndEnd, now,
    lock ? null : now, (subject, live) => countNamedPoints(requests, subject, live));
  if (hasOverflow && !lock) await tx.readAndEnd(readKeys());
  const responses = new StoredResponses(stored);
  return {
    now,
    askedAtMs,
    otps: otps as readonly (L extends true ? Otp : OtpSummary)[],
    wrongCounts,
    ipLimits,
    extraLimits,
    revocations,
    stored: responses,
  };
}

/** Users, subjects in slots, keys, and users with claims of a batch, each once. */
function collectNames(requests: readonly PreparedRequest[]) {
  const subjects = new Set<string>();
  for (const { slotLimits, deviceSlotLimits } of requests) {
    for (const { subject } of slotLimits) subjects.add(subject);
    for (const { subject } of deviceSlotLimits) subjects.add(subject);
  }
  const claimants = requests.filter(({ claims }) => claims.length > 0);
  return {
    users: [...new Set(requests.map(({ userId }) => userId))],
    subjects: [...subjects],
    claimants: [...new Set(claimants.map(({ userId }) => userId))],
    keys: [...new Set(requests.map(({ keyDigest }) => keyDigest))],
  };
}

/**
 * How many of the oldest points of a subject the responses of a batch may name. One suffices unless
 * the subject has more points than a purpose with a smaller limit allows; each request may take one
 * more point. A limit in shadow names no time.
 */
function countNamedPoints(
  requests: readonly PreparedRequest[],
  subject: string,
  livePoints: number,
): number {
  let quota = Infinity;
  let count = 0;
  for (const { slotLimits, deviceSlotLimits, policy: { shadow } } of requests) {
    const isOwn = (one: SlotLimit): boolean => one.subject === subject;
    const own = slotLimits.find(isOwn) ?? deviceSlotLimits.find(isOwn);
    if (own === undefined) continue;
    count += 1;
    if (!shadow.has(own.limit)) quota = Math.min(quota, own.quota);
  }
  return Math.max(1, livePoints + count - quota + 1);
}
