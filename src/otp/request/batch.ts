/**
 * The state that a list of requests shares inside one transaction: loaded once, changed by each
 * decision in the order of arrival, written once. A lone request is a list of one.
 */
import { TallyBook } from '../batch/extra-limits.ts';
import { AddressBook } from '../batch/ip-limits.ts';
import { OtpBook } from '../batch/otps.ts';
import { AnswerBook } from '../batch/stored-responses.ts';
import { digestKey } from '../crypto/secrets.ts';
import { READ_CLOCK } from '../../db/clock.ts';
import type { Instant } from '../../db/instant.ts';
import { mapAnswer } from '../../db/query.ts';
import type { Hex, Query } from '../../db/query.ts';
import type { Sweep } from '../../db/sweep/sweeper.ts';
import {
  freeExpiredKeys, isRequestStored, loadRequestAnswers,
} from '../../db/tables/idempotency-keys.ts';
import type { RequestAnswer } from '../../db/tables/idempotency-keys.ts';
import { lockSlots } from '../../db/tables/ip-limits.ts';
import type { AddressSlot } from '../../db/tables/ip-limits.ts';
import { lockOtps } from '../../db/tables/otps.ts';
import type { Otp } from '../../db/tables/otps.ts';
import type { Transaction } from '../../db/transaction.ts';
import type { RequestState, RequestWrites } from './decide.ts';
import type { IssueInput } from '../outcomes.ts';
import type { Policies, Policy } from '../policy/policy.ts';
import { countedOfRequest } from '../rules/extra-limits.ts';
import type { Counted } from '../rules/extra-limits.ts';

/** The state of a list of requests. */
export class RequestLedger {
  /** The database's clock, once the locks were held. */
  readonly now: Instant;
  readonly #answers: AnswerBook<RequestAnswer>;
  readonly #otps: OtpBook;
  readonly #addresses: AddressBook;
  readonly #tallies: TallyBook;
  /** The first code that was issued. */
  #first: RequestAnswer | null = null;

  private constructor(
    now: Instant,
    answers: readonly RequestAnswer[],
    otps: readonly Otp[],
    addresses: AddressBook,
    tallies: TallyBook,
  ) {
    this.now = now;
    this.#answers = new AnswerBook(answers);
    this.#otps = new OtpBook(otps);
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
  ): Promise<RequestLedger> {
    const { users, addresses, keys } = namesOf(members);
    const tallies = TallyBook.for(members);
    let answers: readonly RequestAnswer[] = [];
    const more: Query<void>[] = [];
    if (readsKeys) more.push(mapAnswer(loadRequestAnswers(keys), (found) => { answers = found; }));
    if (sweep !== null) more.push(sweep.inspect);
    const { otps, slots, now } = await ask(tx, {
      locks: [lockOtps(users), lockSlots(addresses)],
      reads: [READ_CLOCK, ...more],
    }, tallies);
    const book = new AddressBook(slots);
    await book.loadOverflow(tx.ask, now, null, pointsNamedBy(members));
    return new RequestLedger(now, answers, otps, book, tallies);
  }

  /** What a member's decision rests on, as the members before it have left it. */
  stateOf({ keyDigest, userId, address, counted }: NamedRequest): RequestState {
    return {
      now: this.now,
      answer: this.#answers.find(keyDigest),
      otps: this.#otps.of(userId),
      address: address === null ? null : this.#addresses.of(address),
      tallies: this.#tallies.of(counted),
    };
  }

  /** Takes a member's writes into the state. */
  apply(member: NamedRequest, writes: RequestWrites): void {
    const { issued, forgetful, unneeded, neededForKey, address } = writes;
    this.#answers.add(issued);
    for (const otp of unneeded) this.#otps.remove(otp);
    for (const otp of neededForKey) this.#otps.keepKeyOnly(otp);
    this.#otps.put(issued);
    if (forgetful !== null) this.#otps.put(forgetful);
    if (member.address !== null && address !== null) this.#addresses.put(member.address, address);
    this.#tallies.add(member.counted, this.now);
    this.#first ??= issued;
  }

  /** Writes what changed, each row once, each table in one statement; says how to prove it. */
  store(tx: Transaction): void {
    const first = this.#first;
    if (first === null) return;
    tx.wasCommitted = isRequestStored(first.keyDigest, first.otpId);
    this.#tallies.erase(tx);
    const { staleKeys } = this.#answers;
    if (staleKeys.length > 0) tx.writes.push(freeExpiredKeys(staleKeys));
    this.#otps.store(tx);
    this.#addresses.store(tx);
    this.#tallies.store(tx);
  }
}

/** What is read beside what every list needs. */
type MoreReads = Readonly<{ readsKeys: boolean; sweep: Sweep | null }>;

type Statements = Readonly<{
  locks: readonly [Query<Otp[]>, Query<AddressSlot[]>];
  reads: readonly [Query<Instant>, ...Query<void>[]];
}>;

/** What other limits count is locked last, and asked for only where there is any. */
async function ask(tx: Transaction, { locks, reads }: Statements, tallies: TallyBook) {
  if (tallies.isEmpty) {
    const [otps, slots, now] = await tx.ask(...locks, ...reads);
    return { otps, slots, now };
  }
  const [otps, slots, , , now] = await tx.ask(
    ...locks, tallies.lock, tallies.uses, ...reads);
  return { otps, slots, now };
}

/** A request as the statements and the rule know it. */
export type NamedRequest = Omit<IssueInput, 'key' | 'caller'> &
  Readonly<{
    policy: Policy;
    keyDigest: Hex;
    /** What it counts for, beside the contract's limits. */
    counted: readonly Counted[];
  }>;

/** Names a request. */
export function nameRequest(policies: Policies, input: IssueInput): NamedRequest {
  const { userId, purpose, address, key, caller, acceptLanguage } = input;
  const policy = policies.for(purpose);
  return {
    userId,
    purpose,
    address,
    acceptLanguage,
    policy,
    keyDigest: digestKey('request', key, caller),
    counted: countedOfRequest(policy, userId),
  };
}

/** Everything that a list of requests names, each once. */
export function namesOf(requests: readonly NamedRequest[]) {
  const addresses = new Set<string>();
  for (const { address } of requests) if (address !== null) addresses.add(address);
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
    const here = requests.filter((request) => request.address === address);
    const quotas = here.filter(({ policy }) => !policy.shadow.has('address'))
      .map(({ policy }) => policy.addressLimit);
    return Math.max(1, livePoints + here.length - Math.min(...quotas) + 1);
  };
}
