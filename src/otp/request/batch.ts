/**
 * The state that a list of requests shares inside one transaction: loaded once, changed by each
 * decision in the order of arrival, written once. A lone request is a list of one.
 */
import { ExtraLimitRows } from '../batch/extra-limits.ts';
import { IpLimitRows } from '../batch/ip-limits.ts';
import { OtpRows } from '../batch/otps.ts';
import { StoredResponses } from '../batch/stored-responses.ts';
import { digestKey } from '../crypto/secrets.ts';
import { READ_CLOCK } from '../../db/clock.ts';
import type { Instant } from '../../db/instant.ts';
import { mapResult } from '../../db/query.ts';
import type { Hex, Query } from '../../db/query.ts';
import type { SweepStep } from '../../db/sweep/sweeper.ts';
import {
  freeExpiredKeys, isRequestStored, loadStoredRequests,
} from '../../db/tables/idempotency-keys.ts';
import type { StoredRequest } from '../../db/tables/idempotency-keys.ts';
import { lockSlots } from '../../db/tables/ip-limits.ts';
import type { IpLimitSlot } from '../../db/tables/ip-limits.ts';
import { lockOtps } from '../../db/tables/otps.ts';
import type { Otp } from '../../db/tables/otps.ts';
import type { Transaction } from '../../db/transaction.ts';
import type { RequestState, RequestWrites } from './decide.ts';
import type { OtpRequest } from '../outcomes.ts';
import type { Policies, Policy } from '../policy/policy.ts';
import { limitsOfRequest } from '../rules/extra-limits.ts';
import type { AppliedLimit } from '../rules/extra-limits.ts';

/** The state of a list of requests. */
export class RequestBatch {
  /** The database's clock, once the locks were held. */
  readonly now: Instant;
  readonly #answers: StoredResponses<StoredRequest>;
  readonly #otps: OtpRows;
  readonly #addresses: IpLimitRows;
  readonly #tallies: ExtraLimitRows;
  /** The first code that was issued. */
  #first: StoredRequest | null = null;

  private constructor(
    now: Instant,
    answers: readonly StoredRequest[],
    otps: readonly Otp[],
    addresses: IpLimitRows,
    tallies: ExtraLimitRows,
  ) {
    this.now = now;
    this.#answers = new StoredResponses(answers);
    this.#otps = new OtpRows(otps);
    this.#addresses = addresses;
    this.#tallies = tallies;
  }

  /**
   * Locks the codes of users, then the slots of addresses, then what other limits count, each
   * sorted, and reads all that the rule needs, the clock included, once the locks are held.
   *
   * @param more what else is read: what is stored under the keys (see key-reading.ts), and what a
   *   sweep looks at on the way
   */
  static async load(
    tx: Transaction,
    members: readonly NamedRequest[],
    { readsKeys, sweep }: MoreReads,
  ): Promise<RequestBatch> {
    const { users, addresses, keys } = namesOf(members);
    const tallies = ExtraLimitRows.for(members);
    let answers: readonly StoredRequest[] = [];
    const more: Query<void>[] = [];
    if (readsKeys) more.push(mapResult(loadStoredRequests(keys), (found) => { answers = found; }));
    if (sweep !== null) more.push(sweep.inspect);
    const { otps, slots, now } = await ask(tx, {
      locks: [lockOtps(users), lockSlots(addresses)],
      reads: [READ_CLOCK, ...more],
    }, tallies);
    const book = new IpLimitRows(slots);
    await book.loadOverflow(tx.read, now, null, pointsNamedBy(members));
    return new RequestBatch(now, answers, otps, book, tallies);
  }

  /** What a member's decision rests on, as the members before it have left it. */
  stateFor({ keyDigest, userId, clientIp, appliedLimits }: NamedRequest): RequestState {
    return {
      now: this.now,
      answer: this.#answers.find(keyDigest),
      otps: this.#otps.of(userId),
      ipWindow: clientIp === null ? null : this.#addresses.of(clientIp),
      hitWindows: this.#tallies.of(appliedLimits),
    };
  }

  /** Takes a member's writes into the state. */
  apply(member: NamedRequest, writes: RequestWrites): void {
    const { issued, attemptsMoved, obsolete, keyOnly, ipChange } = writes;
    this.#answers.add(issued);
    for (const otp of obsolete) this.#otps.remove(otp);
    for (const otp of keyOnly) this.#otps.stripToKey(otp);
    this.#otps.put(issued);
    if (attemptsMoved !== null) this.#otps.put(attemptsMoved);
    if (member.clientIp !== null && ipChange !== null) {
      this.#addresses.put(member.clientIp, ipChange);
    }
    this.#tallies.add(member.appliedLimits, this.now);
    this.#first ??= issued;
  }

  /** Writes what changed, each row once, each table in one statement; says how to prove it. */
  flush(tx: Transaction): void {
    const first = this.#first;
    if (first === null) return;
    tx.commitProbe(isRequestStored(first.keyDigest, first.otpId));
    this.#tallies.erase(tx);
    const { staleKeys } = this.#answers;
    if (staleKeys.length > 0) tx.writes.push(freeExpiredKeys(staleKeys));
    this.#otps.flush(tx);
    this.#addresses.flush(tx);
    this.#tallies.flush(tx);
  }
}

/** What is read beside what every list needs. */
type MoreReads = Readonly<{ readsKeys: boolean; sweep: SweepStep | null }>;

type Statements = Readonly<{
  locks: readonly [Query<Otp[]>, Query<IpLimitSlot[]>];
  reads: readonly [Query<Instant>, ...Query<void>[]];
}>;

/** What other limits count is locked last, and asked for only where there is any. */
async function ask(tx: Transaction, { locks, reads }: Statements, tallies: ExtraLimitRows) {
  if (tallies.isEmpty) {
    const [otps, slots, now] = await tx.read(...locks, ...reads);
    return { otps, slots, now };
  }
  const [otps, slots, , , now] = await tx.read(
    ...locks, tallies.lock, tallies.uses, ...reads);
  return { otps, slots, now };
}

/** A request as the statements and the rule know it. */
export type NamedRequest = Omit<OtpRequest, 'key' | 'apiClient'> &
  Readonly<{
    policy: Policy;
    keyDigest: Hex;
    /** What it counts for, beside the contract's limits. */
    appliedLimits: readonly AppliedLimit[];
  }>;

/** Names a request. */
export function nameRequest(policies: Policies, input: OtpRequest): NamedRequest {
  const { userId, purpose, clientIp, key, apiClient, acceptLanguage } = input;
  const policy = policies.for(purpose);
  return {
    userId,
    purpose,
    clientIp,
    acceptLanguage,
    policy,
    keyDigest: digestKey('request', key, apiClient),
    appliedLimits: limitsOfRequest(policy, userId),
  };
}

/** Everything that a list of requests names, each once. */
export function namesOf(requests: readonly NamedRequest[]) {
  const addresses = new Set<string>();
  for (const { clientIp } of requests) if (clientIp !== null) addresses.add(clientIp);
  return {
    users: [...new Set(requests.map(({ userId }) => userId))],
    addresses: [...addresses],
    keys: [...new Set(requests.map(({ keyDigest }) => keyDigest))],
  };
}

/**
 * How many of the oldest points of an address the answers of a list may name: one, unless it has
 * more than a purpose with a smaller limit allows. Each request may use one more. A limit in shadow
 * names no time but that of the oldest.
 */
export function pointsNamedBy(requests: readonly NamedRequest[]) {
  return (address: string, livePoints: number): number => {
    const here = requests.filter((request) => request.clientIp === address);
    const quotas = here.filter(({ policy }) => !policy.shadow.has('address'))
      .map(({ policy }) => policy.addressLimit);
    return Math.max(1, livePoints + here.length - Math.min(...quotas) + 1);
  };
}
