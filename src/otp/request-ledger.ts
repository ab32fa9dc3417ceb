/**
 * The state that a list of requests shares inside one transaction: loaded once, changed by each
 * decision in the order of arrival, written once. A lone request is a list of one.
 */
import { READ_CLOCK } from '../db/clock.ts';
import { isAnswerStored, loadAnswers } from '../db/idempotency-keys.ts';
import type { StoredAnswer } from '../db/idempotency-keys.ts';
import type { Instant } from '../db/instant.ts';
import { insertSlots, lockSlots, readSlots, updateSlots } from '../db/ip-rate-limits.ts';
import type { AddressSlot, Slot } from '../db/ip-rate-limits.ts';
import { lockOtps, readOtps } from '../db/otps.ts';
import type { Otp } from '../db/otps.ts';
import type { Sweep } from '../db/sweep.ts';
import type { Transaction } from '../db/transaction.ts';
import { AnswerBook } from './answer-book.ts';
import type { RequestState, RequestWrites } from './decide-request.ts';
import { bytesKey } from './map-keys.ts';
import { OtpBook } from './otp-book.ts';
import { replaceSlot } from './window.ts';

/** What the ledger needs to know of a request. */
export type LedgerMember = Readonly<{ userId: string; address: string; keyDigest: Buffer }>;

type Loaded = Readonly<{
  now: Instant;
  answers: StoredAnswer[];
  otps: Otp[];
  slots: AddressSlot[];
}>;

/** The state of a list of requests. */
export class RequestLedger {
  readonly #now: Instant;
  readonly #answers: AnswerBook;
  readonly #otps: OtpBook;
  readonly #slots = new Map<string, Slot[]>();
  readonly #loadedSlots = new Set<string>();
  readonly #changedSlots = new Map<string, AddressSlot>();
  /** The answer of the first code that was issued. */
  #firstAnswer: StoredAnswer | null = null;

  private constructor({ now, answers, otps, slots }: Loaded) {
    this.#now = now;
    this.#answers = new AnswerBook(answers);
    this.#otps = new OtpBook(otps);
    for (const slot of slots) {
      this.#loadedSlots.add(slotKey(slot));
      const known = this.#slots.get(slot.address);
      if (known === undefined) this.#slots.set(slot.address, [slot]);
      else known.push(slot);
    }
  }

  /**
   * Locks the codes of users, then the slots of addresses, each sorted, and reads all that the
   * rule needs, the clock included, once the locks are held.
   *
   * @param sweep looks for dead rows on the way; null for none
   */
  static async load(
    tx: Transaction,
    members: readonly LedgerMember[],
    sweep: Sweep | null,
  ): Promise<RequestLedger> {
    const { users, addresses, keys } = namesOf(members);
    const inspections = sweep === null ? [] : [sweep.inspect];
    const [otps, slots, now, answers] = await tx.ask(
      lockOtps(users), lockSlots(addresses), READ_CLOCK, loadAnswers(keys), ...inspections);
    return new RequestLedger({ now, answers, otps, slots });
  }

  /**
   * Reads the same without a lock, the clock first, and ends the transaction. What was used after
   * that time is left out, so that whoever is refused by it is refused by codes of the last 15
   * minutes and no others.
   */
  static async peek(tx: Transaction, members: readonly LedgerMember[]): Promise<RequestLedger> {
    const { users, addresses, keys } = namesOf(members);
    const [now, answers, otps, slots] = await tx.askLast(
      READ_CLOCK, loadAnswers(keys), readOtps(users), readSlots(addresses));
    return new RequestLedger({
      now,
      answers,
      otps: otps.filter(({ createdAt }) => createdAt <= now),
      slots: slots.filter(({ usedAt }) => usedAt <= now),
    });
  }

  /** What a member's decision rests on, as the members before it have left it. */
  stateOf({ keyDigest, userId, address }: LedgerMember): RequestState {
    return {
      now: this.#now,
      answer: this.#answers.find(keyDigest),
      otps: this.#otps.of(userId),
      addressSlots: this.#slots.get(address) ?? NO_SLOTS,
    };
  }

  /** Takes a member's writes into the state. */
  apply({ address }: LedgerMember, { answer, otps, addressSlot }: RequestWrites): void {
    this.#answers.add(answer);
    for (const otp of otps) this.#otps.put(otp);
    this.#slots.set(address, replaceSlot(this.#slots.get(address) ?? NO_SLOTS, addressSlot));
    const slot = { address, ...addressSlot };
    this.#changedSlots.set(slotKey(slot), slot);
    this.#firstAnswer ??= answer;
  }

  /** True when no code was issued. */
  get isUnchanged(): boolean {
    return this.#firstAnswer === null;
  }

  /** Writes what changed, each row once, each table in one statement; says how to prove it. */
  store(tx: Transaction): void {
    const first = this.#firstAnswer;
    if (first === null) return;
    tx.wasCommitted = isAnswerStored(first.keyDigest, first.otpId);
    this.#otps.store(tx);
    this.#storeSlots(tx);
    this.#answers.store(tx);
  }

  #storeSlots(tx: Transaction): void {
    const known: AddressSlot[] = [];
    const fresh: AddressSlot[] = [];
    for (const [key, slot] of this.#changedSlots) {
      (this.#loadedSlots.has(key) ? known : fresh).push(slot);
    }
    if (known.length > 0) tx.writes.push(updateSlots(known));
    if (fresh.length === 0) return;
    fresh.sort((a, b) => (a.address < b.address ? -1 : 1));
    tx.writes.push(insertSlots(fresh));
  }
}

const NO_SLOTS: readonly Slot[] = Object.freeze([]);

function slotKey({ address, slot }: AddressSlot): string {
  return `${slot} ${address}`;
}

/** Every name once. */
function namesOf(members: readonly LedgerMember[]) {
  const keys = new Map(members.map(({ keyDigest }) => [bytesKey(keyDigest), keyDigest]));
  return {
    users: [...new Set(members.map(({ userId }) => userId))],
    addresses: [...new Set(members.map(({ address }) => address))],
    keys: [...keys.values()],
  };
}
