/** The messages in the database, as the process that sends them changes them: lists at a time. */
import { groupBy } from '../batch/changed-rows.ts';
import { AddressBook } from '../batch/ip-limits.ts';
import { OtpBook } from '../batch/otps.ts';
import { Collector } from '../batcher.ts';
import type { Secrets } from '../crypto/secrets.ts';
import { elapsedMs, READ_CLOCK, RunningClock } from '../../db/clock.ts';
import { addSeconds } from '../../db/instant.ts';
import type { SessionPool } from '../../db/pool.ts';
import type { Hex } from '../../db/query.ts';
import { lockSlots } from '../../db/tables/ip-limits.ts';
import { findUsers, lockOtps, readOtpsOfUsers } from '../../db/tables/otps.ts';
import type { Otp } from '../../db/tables/otps.ts';
import {
  eraseBundles, isErased, leaseBundles, lockLeftBundles, lockOwnBundles, replaceBundles,
} from '../../db/tables/outbox.ts';
import type { SealedBundle } from '../../db/tables/outbox.ts';
import { transaction } from '../../db/transaction.ts';
import type { Transaction } from '../../db/transaction.ts';
import { LEASE_SECONDS } from './outbox-batch.ts';
import type { Bundle, HeldLease } from './outbox-batch.ts';
import type { Parcel } from './pending-message.ts';
import type { Policies } from '../policy/policy.ts';
import { isOpen } from '../rules/lifecycle.ts';
import { decideFailure } from './undeliverable.ts';

/** A message that went by another channel than its code's row names. */
export type Rerouted = Readonly<{ otpId: Hex; userId: string; channel: string }>;

/** A code whose message no channel will take; a null address is not known, or was not counted. */
type Failed = Readonly<{ otpId: Hex; bundleId: Hex; address: string | null }>;

/** What the outbox needs. */
type OutboxParts = Readonly<{
  pool: SessionPool;
  policies: Policies;
  secrets: Secrets;
  /** Names this process, OWNER_BYTES. */
  owner: Hex;
}>;

/** The outbox, as one process sees it. All of it throws Unavailable when the database is away. */
export class Outbox {
  readonly #parts: OutboxParts;

  constructor(parts: OutboxParts) {
    this.#parts = parts;
  }

  /** Takes over bundles that somebody has left, at most `max`. */
  takeOver(
    max: number,
  ): Promise<Readonly<{ bundles: readonly SealedBundle[]; lease: HeldLease }>> {
    return transaction(this.#parts.pool, async (tx) => {
      const askedAtMs = elapsedMs();
      const [bundles, now] = await tx.ask(lockLeftBundles(max), READ_CLOCK);
      const leasedUntil = addSeconds(now, LEASE_SECONDS);
      this.#lease(tx, bundles.map(({ bundleId }) => bundleId), leasedUntil);
      return { bundles, lease: { clock: new RunningClock(now, askedAtMs), leasedUntil } };
    });
  }

  /**
   * Renews the leases of messages.
   *
   * @returns the bundles that are this process's still, and the codes that can be redeemed still
   */
  renew(parcels: readonly Parcel[]): Promise<Readonly<{
    held: ReadonlySet<Hex>; open: ReadonlySet<Hex>; lease: HeldLease;
  }>> {
    const bundleIds = [...new Set(parcels.map(({ bundle }) => bundle.bundleId))];
    const names = parcels.map(({ message: { otpId }, bundle: { bundleId } }) =>
      ({ otpId, bundleId }));
    return transaction(this.#parts.pool, async (tx) => {
      const askedAtMs = elapsedMs();
      const [held, otps, now] = await tx.ask(
        lockOwnBundles(bundleIds, this.#parts.owner), readOtpsOfUsers(names), READ_CLOCK);
      const leasedUntil = addSeconds(now, LEASE_SECONDS);
      this.#lease(tx, [...held], leasedUntil);
      const otpsOf = groupBy(otps, ({ userId }) => userId);
      const open = otps.filter((otp) => isOpen(otp, otpsOf.get(otp.userId)!));
      return {
        held,
        open: new Set(open.map(({ otpId }) => otpId)),
        lease: { clock: new RunningClock(now, askedAtMs), leasedUntil },
      };
    });
  }

  /** Lets any process take over bundles, at once. */
  release(bundleIds: readonly Hex[]): Promise<void> {
    return transaction(this.#parts.pool, async (tx) => {
      const [held, now] = await tx.ask(
        lockOwnBundles(bundleIds, this.#parts.owner), READ_CLOCK);
      this.#lease(tx, [...held], now);
    });
  }

  #lease(tx: Transaction, bundleIds: readonly Hex[], leasedUntil: number): void {
    if (bundleIds.length === 0) tx.hasNothingToKeep = true;
    else tx.writes.push(leaseBundles(bundleIds, { owner: this.#parts.owner, leasedUntil }));
  }

  /** Erases bundles of which nothing is left, and seals what is left of the others anew. */
  save(bundles: readonly Bundle[], rerouted: readonly Rerouted[]): Promise<void> {
    const { pool, secrets, owner } = this.#parts;
    // What is left may change while this is under way: then it is saved again.
    const left = bundles.filter(({ size }) => size > 0).map((one) => one.seal(secrets.current));
    const done = bundles.filter(({ size }) => size === 0).map(({ bundleId }) => bundleId).sort();
    return transaction(pool, async (tx) => {
      if (rerouted.length > 0) await setChannels(tx, rerouted);
      if (left.length > 0) tx.writes.push(replaceBundles(left, owner));
      if (done.length > 0) tx.writes.push(eraseBundles(done));
      tx.wasCommitted = done.length > 0 ? isErased(done[0]!) : null;
    });
  }

  /**
   * Closes codes whose messages no channel will take, and gives their quota points back.
   *
   * @returns those that this happened to, or had happened to before: the others are in bundles that
   *   are not this process's any more
   */
  fail(list: readonly Failed[]): Promise<Set<Hex>> {
    const bundleIds = [...new Set(list.map(({ bundleId }) => bundleId))];
    return transaction(this.#parts.pool, async (tx) => {
      const [users] = await tx.ask(findUsers(list));
      const otps = new OtpBook(await lockUsers(tx, users.values()));
      const addresses = new AddressBook(await lockAddresses(tx, list));
      const [now, own] = await tx.ask(
        READ_CLOCK, lockOwnBundles(bundleIds, this.#parts.owner));
      const ours = list.filter(({ bundleId }) => own.has(bundleId));
      for (const { otpId, address } of ours) {
        const otp = otps.find(users.get(otpId), otpId);
        if (otp !== null) this.#closeOne(now, otp, address, otps, addresses);
      }
      if (otps.changed.length === 0) tx.hasNothingToKeep = true;
      else {
        otps.store(tx);
        addresses.store(tx);
      }
      return new Set(ours.map(({ otpId }) => otpId));
    });
  }

  #closeOne(
    now: number,
    otp: Otp,
    address: string | null,
    otps: OtpBook,
    addresses: AddressBook,
  ): void {
    const uses = address === null ? null : addresses.of(address);
    const state = { now, otp, otps: otps.of(otp.userId), address: uses };
    const writes = decideFailure(state, this.#parts.policies.for(otp.purpose));
    if (writes === null) return;
    otps.put(writes.otp);
    if (address !== null && writes.address !== null) addresses.put(address, writes.address);
  }
}

async function setChannels(tx: Transaction, list: readonly Rerouted[]): Promise<void> {
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

const LIST_MAX = 500;
const WAITING_MAX = 10_000;

/**
 * - `ours`: the message is to be sent, and the lease is renewed.
 * - `ended`: its code cannot be redeemed any more.
 * - `lost`: another process has taken it over.
 */
type Renewal = 'ours' | 'ended' | 'lost';

/** Collects for an outbox. All of it throws Unavailable when the database is away. */
export class OutboxQueue {
  readonly #renewals: Collector<Parcel, Renewal>;
  readonly #failures: Collector<Failed, boolean>;

  constructor(outbox: Outbox) {
    const lane = {
      lanesMax: 1, batchMax: LIST_MAX, backlogPerLane: 1, waitingMax: WAITING_MAX,
      // One list at a time: no two of them can meet.
      subjectsOf: () => [],
    };
    this.#renewals = new Collector({ ...lane, run: (list) => renewAll(outbox, list) });
    this.#failures = new Collector({
      ...lane,
      run: async (list) => {
        const closed = await outbox.fail(list);
        return list.map(({ otpId }) => closed.has(otpId));
      },
    });
  }

  /** Asks whether a message is to be sent still, and renews its lease. */
  renew(parcel: Parcel): Promise<Renewal> {
    return this.#renewals.submit(parcel);
  }

  /** Closes the code of a message that no channel will take; false when it was not ours to. */
  fail(failed: Failed): Promise<boolean> {
    return this.#failures.submit(failed);
  }
}

async function renewAll(outbox: Outbox, parcels: readonly Parcel[]): Promise<Renewal[]> {
  const { held, open, lease } = await outbox.renew(parcels);
  return parcels.map((parcel) => {
    if (!held.has(parcel.bundle.bundleId)) return 'lost';
    parcel.bundle.renew(lease);
    if (!open.has(parcel.message.otpId)) return 'ended';
    parcel.noteRenewal();
    return 'ours';
  });
}
