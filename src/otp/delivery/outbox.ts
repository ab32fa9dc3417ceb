/** The messages in the database, as the process that sends them changes them: lists at a time. */
import { READ_CLOCK } from '../../db/clock.ts';
import type { Hex } from '../../db/hex.ts';
import { addSeconds } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import { lockSlots } from '../../db/ip-rate-limits.ts';
import { findUsers } from '../../db/otps-by-id.ts';
import { lockOtps } from '../../db/otps.ts';
import type { Otp } from '../../db/otps.ts';
import {
  eraseMessages, isErased, leaseMessages, lockLeftMessages, lockOwnMessages,
} from '../../db/outbox.ts';
import type { SealedMessage } from '../../db/outbox.ts';
import type { SessionPool } from '../../db/pool.ts';
import { elapsedMs, RunningClock } from '../../db/running-clock.ts';
import { transaction } from '../../db/transaction.ts';
import type { Transaction } from '../../db/transaction.ts';
import { AddressBook } from '../address-book.ts';
import { decideFailure } from '../decide-failure.ts';
import { OtpBook } from '../otp-book.ts';
import type { Policies } from '../policy.ts';
import { LEASE_SECONDS } from './parcel.ts';
import type { ParcelLease } from './parcel.ts';

/** A message that a channel has accepted. */
export type Accepted = Readonly<{
  otpId: Hex;
  userId: string;
  channel: string;
  /** Whether the code's row names another channel. */
  isOther: boolean;
}>;

/** A message that no channel will take; the address is null when it is not known any more. */
export type Failed = Readonly<{ otpId: Hex; address: string | null }>;

/** The outbox, as one process sees it. All of it throws Unavailable when the database is away. */
export class Outbox {
  readonly #pool: SessionPool;
  readonly #policies: Policies;
  readonly #owner: Hex;

  /** @param owner names this process, OWNER_BYTES */
  constructor(pool: SessionPool, policies: Policies, owner: Hex) {
    this.#pool = pool;
    this.#policies = policies;
    this.#owner = owner;
  }

  /** Takes over messages that somebody has left, the expired ones too; at most `max`. */
  takeOver(
    max: number,
  ): Promise<Readonly<{ messages: readonly SealedMessage[]; lease: ParcelLease }>> {
    return transaction(this.#pool, async (tx) => {
      const askedAtMs = elapsedMs();
      const [messages, now] = await tx.ask(lockLeftMessages(max), READ_CLOCK);
      const leasedUntil = addSeconds(now, LEASE_SECONDS);
      this.#lease(tx, messages.map(({ otpId }) => otpId), leasedUntil);
      return { messages, lease: { clock: new RunningClock(now, askedAtMs), leasedUntil } };
    });
  }

  /**
   * Renews the lease of messages.
   *
   * @returns those that are to be sent still: not erased, and not taken over by another process
   */
  hold(otpIds: readonly Hex[]): Promise<Readonly<{ held: Set<Hex>; lease: ParcelLease }>> {
    return this.#holdFor(otpIds, LEASE_SECONDS);
  }

  /** Lets any process take over messages, at once. */
  async release(otpIds: readonly Hex[]): Promise<void> {
    await this.#holdFor(otpIds, 0);
  }

  #holdFor(otpIds: readonly Hex[], seconds: number) {
    return transaction(this.#pool, async (tx) => {
      const askedAtMs = elapsedMs();
      const [held, now] = await tx.ask(lockOwnMessages(otpIds, this.#owner), READ_CLOCK);
      const leasedUntil = addSeconds(now, seconds);
      this.#lease(tx, [...held], leasedUntil);
      return { held, lease: { clock: new RunningClock(now, askedAtMs), leasedUntil } };
    });
  }

  #lease(tx: Transaction, otpIds: readonly Hex[], leasedUntil: Instant): void {
    if (otpIds.length === 0) tx.hasNothingToKeep = true;
    else tx.writes.push(leaseMessages(otpIds, { owner: this.#owner, leasedUntil }));
  }

  /** Erases messages that were accepted, and says by which channel they went. */
  markAccepted(list: readonly Accepted[]): Promise<void> {
    return transaction(this.#pool, async (tx) => {
      const others = list.filter(({ isOther }) => isOther);
      if (others.length > 0) await setChannels(tx, others);
      tx.writes.push(eraseMessages(list.map(({ otpId }) => otpId)));
      tx.wasCommitted = isErased(list[0]!.otpId);
    });
  }

  /**
   * Closes the codes of messages that no channel will take, gives their quota points back, and
   * erases them.
   *
   * @returns the messages that this happened to: the others are not this process's any more
   */
  fail(list: readonly Failed[]): Promise<Set<Hex>> {
    const otpIds = list.map(({ otpId }) => otpId);
    return transaction(this.#pool, async (tx) => {
      const [users] = await tx.ask(findUsers(otpIds));
      const otps = new OtpBook(await lockUsers(tx, users.values()));
      const addresses = new AddressBook(await lockAddresses(tx, list));
      const [now, own] = await tx.ask(READ_CLOCK, lockOwnMessages(otpIds, this.#owner));
      if (own.size === 0) {
        tx.hasNothingToKeep = true;
        return own;
      }
      for (const failed of list) {
        const otp = own.has(failed.otpId) ? otps.find(users.get(failed.otpId), failed.otpId) : null;
        if (otp !== null) this.#closeOne(now, otp, failed.address, otps, addresses);
      }
      otps.store(tx);
      addresses.store(tx);
      tx.writes.push(eraseMessages([...own]));
      tx.wasCommitted = isErased([...own][0]!);
      return own;
    });
  }

  #closeOne(
    now: Instant,
    otp: Otp,
    address: string | null,
    otps: OtpBook,
    addresses: AddressBook,
  ): void {
    const uses = address === null ? null : addresses.of(address);
    const state = { now, otp, otps: otps.of(otp.userId), address: uses };
    const writes = decideFailure(state, this.#policies.for(otp.purpose));
    if (writes === null) return;
    otps.put(writes.otp);
    if (address !== null && writes.address !== null) addresses.put(address, writes.address);
  }
}

async function setChannels(tx: Transaction, list: readonly Accepted[]): Promise<void> {
  const otps = new OtpBook(await lockUsers(tx, list.map(({ userId }) => userId)));
  for (const { otpId, userId, channel } of list) {
    const otp = otps.find(userId, otpId);
    if (otp !== null) otps.put({ ...otp, channel });
  }
  otps.store(tx);
}

async function lockUsers(tx: Transaction, users: Iterable<string>): Promise<Otp[]> {
  const unique = [...new Set(users)];
  return unique.length === 0 ? [] : (await tx.ask(lockOtps(unique)))[0];
}

async function lockAddresses(tx: Transaction, list: readonly Failed[]) {
  const addresses = new Set<string>();
  for (const { address } of list) if (address !== null) addresses.add(address);
  return addresses.size === 0 ? [] : (await tx.ask(lockSlots([...addresses])))[0];
}
