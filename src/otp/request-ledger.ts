/**
 * The state that a list of requests shares inside one transaction: loaded once, changed by each
 * decision in the order of arrival, written once. A lone request is a list of one.
 */
import { isAnswerStored, loadClockAndAnswers } from '../db/idempotency-keys.ts';
import type { StoredAnswer } from '../db/idempotency-keys.ts';
import type { Instant } from '../db/instant.ts';
import { lockPairs, readPairs, storePairs } from '../db/otps.ts';
import type { Pair, PairName } from '../db/otps.ts';
import { ipRateLimits, userRateLimits } from '../db/rate-limits.ts';
import type { RateLimits, Slot, SubjectSlot } from '../db/rate-limits.ts';
import type { Transaction } from '../db/transaction.ts';
import type { RequestState, RequestWrites } from './decide-request.ts';
import { replaceSlot } from './decide-request.ts';
import { AnswerBook } from './answer-book.ts';
import { bytesKey, pairKey } from './map-keys.ts';

/** What the ledger needs to know of a request. */
export type LedgerMember = PairName & Readonly<{ address: string; keyDigest: Buffer }>;

/** The state of a list of requests. */
export class RequestLedger {
  readonly #now: Instant;
  readonly #answers: AnswerBook;
  readonly #pairs: Map<string, Pair>;
  readonly #userSlots: Map<string, Slot[]>;
  readonly #addressSlots: Map<string, Slot[]>;
  readonly #loadedSlots: Readonly<{ user: Set<string>; address: Set<string> }>;
  readonly #writes: { member: LedgerMember; rows: RequestWrites }[] = [];

  private constructor(
    now: Instant,
    answers: StoredAnswer[],
    pairs: Pair[],
    userSlots: SubjectSlot[],
    addressSlots: SubjectSlot[],
  ) {
    this.#now = now;
    this.#answers = new AnswerBook(answers);
    this.#pairs = new Map(pairs.map((pair) => [pairKey(pair), pair]));
    this.#loadedSlots = {
      user: new Set(userSlots.map(slotKey)),
      address: new Set(addressSlots.map(slotKey)),
    };
    this.#userSlots = groupBySubject(userSlots);
    this.#addressSlots = groupBySubject(addressSlots);
  }

  /**
   * Locks users, then addresses, then pairs, each sorted, and reads all that the rule needs, the
   * clock included, once the locks are held.
   */
  static async load(tx: Transaction, members: readonly LedgerMember[]): Promise<RequestLedger> {
    const { users, addresses, pairNames, keys } = namesOf(members);
    const [userSlots, addressSlots, pairs, { now, answers }] = await tx.ask(
      userRateLimits.lock(users),
      ipRateLimits.lock(addresses),
      lockPairs(pairNames),
      loadClockAndAnswers(keys),
    );
    return new RequestLedger(now, answers, pairs, userSlots, addressSlots);
  }

  /**
   * Reads the same without a lock, the clock first. What was used after that time is left out, so
   * that whoever is refused by it is refused by codes of the last 15 minutes and no others.
   */
  static async peek(tx: Transaction, members: readonly LedgerMember[]): Promise<RequestLedger> {
    const { users, addresses, pairNames, keys } = namesOf(members);
    const [{ now, answers }, userSlots, addressSlots, pairs] = await tx.ask(
      loadClockAndAnswers(keys),
      userRateLimits.read(users),
      ipRateLimits.read(addresses),
      readPairs(pairNames),
    );
    const isKnown = ({ usedAt }: SubjectSlot): boolean => usedAt <= now;
    const [user, address] = [userSlots.filter(isKnown), addressSlots.filter(isKnown)];
    return new RequestLedger(now, answers, pairs, user, address);
  }

  /** What a member's decision rests on, as the members before it have left it. */
  stateOf(member: LedgerMember): RequestState {
    return {
      now: this.#now,
      answer: this.#answers.find(member.keyDigest),
      pair: this.#pairs.get(pairKey(member)) ?? null,
      userSlots: this.#userSlots.get(member.userId) ?? [],
      addressSlots: this.#addressSlots.get(member.address) ?? [],
    };
  }

  /** Takes a member's writes into the state. */
  apply(member: LedgerMember, rows: RequestWrites): void {
    this.#answers.add(rows.answer);
    this.#pairs.set(pairKey(member), rows.pair);
    setSlot(this.#userSlots, member.userId, rows.userSlot);
    setSlot(this.#addressSlots, member.address, rows.addressSlot);
    this.#writes.push({ member, rows });
  }

  /** Those to whom a code was issued. */
  get issued(): LedgerMember[] {
    return this.#writes.map(({ member }) => member);
  }

  /** Writes what changed, each row once, each table in one statement; says how to prove it. */
  store(tx: Transaction): void {
    const first = this.#writes[0];
    if (first === undefined) return;
    const { answer } = first.rows;
    tx.wasCommitted = isAnswerStored(answer.keyDigest, answer.otpId);
    storeSlots(tx, userRateLimits, this.#loadedSlots.user, this.#changed('user'));
    storeSlots(tx, ipRateLimits, this.#loadedSlots.address, this.#changed('address'));
    const pairs = new Map(this.#writes.map(({ member, rows }) => [pairKey(member), rows.pair]));
    tx.writes.push(storePairs([...pairs.values()]));
    this.#answers.store(tx);
  }

  #changed(kind: 'user' | 'address'): SubjectSlot[] {
    const changed = new Map<string, SubjectSlot>();
    for (const { member, rows } of this.#writes) {
      const subject = kind === 'user' ? member.userId : member.address;
      const slot = { subject, ...(kind === 'user' ? rows.userSlot : rows.addressSlot) };
      changed.set(slotKey(slot), slot);
    }
    return [...changed.values()];
  }
}

function storeSlots(
  tx: Transaction,
  limits: RateLimits,
  loaded: ReadonlySet<string>,
  changed: readonly SubjectSlot[],
): void {
  const fresh = changed.filter((slot) => !loaded.has(slotKey(slot)));
  const known = fresh.length === changed.length ? []
    : changed.filter((slot) => loaded.has(slotKey(slot)));
  if (known.length > 0) tx.writes.push(limits.update(known));
  if (fresh.length === 0) return;
  fresh.sort((a, b) => (a.subject < b.subject ? -1 : 1));
  tx.writes.push(limits.insert(fresh));
}

function slotKey({ subject, slot }: SubjectSlot): string {
  return `${slot} ${subject}`;
}

/** Every name once. */
function namesOf(members: readonly LedgerMember[]) {
  const pairs = new Map(members.map((member) => [pairKey(member), member]));
  const keys = new Map(members.map(({ keyDigest }) => [bytesKey(keyDigest), keyDigest]));
  return {
    users: [...new Set(members.map(({ userId }) => userId))],
    addresses: [...new Set(members.map(({ address }) => address))],
    pairNames: [...pairs.values()],
    keys: [...keys.values()],
  };
}

function groupBySubject(slots: SubjectSlot[]): Map<string, Slot[]> {
  const groups = new Map<string, Slot[]>();
  for (const slot of slots) {
    const group = groups.get(slot.subject);
    if (group === undefined) groups.set(slot.subject, [slot]);
    else group.push(slot);
  }
  return groups;
}

function setSlot(groups: Map<string, Slot[]>, subject: string, slot: Slot): void {
  groups.set(subject, replaceSlot(groups.get(subject) ?? [], slot));
}
