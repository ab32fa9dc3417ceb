/** The messages in the database, as the process that sends them changes them: lists at a time. */
import { groupBy } from '../batch/changed-rows.ts';
import { IpLimitRows } from '../batch/ip-limits.ts';
import { OtpRows } from '../batch/otps.ts';
import { Batcher } from '../batcher.ts';
import type { Secrets } from '../crypto/secrets.ts';
import { monotonicMs, READ_CLOCK, EstimatedClock } from '../../db/clock.ts';
import { addSeconds } from '../../db/instant.ts';
import type { ConnectionPool } from '../../db/pool.ts';
import type { Hex } from '../../db/query.ts';
import { lockSlots } from '../../db/tables/ip-limits.ts';
import { findUsers, lockOtps, readOtpsOfUsers } from '../../db/tables/otps.ts';
import type { Otp } from '../../db/tables/otps.ts';
import {
  deleteBatches, isBatchDeleted, leaseBatches, lockExpiredBatches, lockOwnBatches, replaceBatches,
} from '../../db/tables/outbox.ts';
import type { SealedBatch } from '../../db/tables/outbox.ts';
import { transaction } from '../../db/transaction.ts';
import type { Transaction } from '../../db/transaction.ts';
import { LEASE_SECONDS } from './outbox-batch.ts';
import type { OutboxBatch, HeldLease } from './outbox-batch.ts';
import type { PendingMessage } from './pending-message.ts';
import type { Policies } from '../policy/policy.ts';
import { isOpen } from '../rules/lifecycle.ts';
import { decideFailure } from './undeliverable.ts';

/** A message that went by another channel than its code's row names. */
export type Rerouted = Readonly<{ otpId: Hex; userId: string; channel: string }>;

/** A code whose message no channel will take; a null address is not known, or was not counted. */
type Failed = Readonly<{ otpId: Hex; batchId: Hex; clientIp: string | null }>;

/** What the outbox needs. */
type OutboxDeps = Readonly<{
  pool: ConnectionPool;
  policies: Policies;
  secrets: Secrets;
  /** Names this process, OWNER_BYTES. */
  owner: Hex;
}>;

/** The outbox, as one process sees it. All of it throws Unavailable when the database is away. */
export class Outbox {
  readonly #parts: OutboxDeps;

  constructor(parts: OutboxDeps) {
    this.#parts = parts;
  }

  /** Takes over bundles that somebody has left, at most `max`. */
  reclaim(
    max: number,
  ): Promise<Readonly<{ batches: readonly SealedBatch[]; lease: HeldLease }>> {
    return transaction(this.#parts.pool, async (tx) => {
      const askedAtMs = monotonicMs();
      const [batches, now] = await tx.read(lockExpiredBatches(max), READ_CLOCK);
      const leasedUntil = addSeconds(now, LEASE_SECONDS);
      this.#lease(tx, batches.map(({ batchId }) => batchId), leasedUntil);
      return { batches, lease: { clock: new EstimatedClock(now, askedAtMs), leasedUntil } };
    });
  }

  /**
   * Renews the leases of messages.
   *
   * @returns the bundles that are this process's still, and the codes that can be redeemed still
   */
  renew(messages: readonly PendingMessage[]): Promise<Readonly<{
    held: ReadonlySet<Hex>; open: ReadonlySet<Hex>; lease: HeldLease;
  }>> {
    const batchIds = [...new Set(messages.map(({ batch }) => batch.batchId))];
    const names = messages.map(({ message: { otpId }, batch: { batchId } }) =>
      ({ otpId, batchId }));
    return transaction(this.#parts.pool, async (tx) => {
      const askedAtMs = monotonicMs();
      const [held, otps, now] = await tx.read(
        lockOwnBatches(batchIds, this.#parts.owner), readOtpsOfUsers(names), READ_CLOCK);
      const leasedUntil = addSeconds(now, LEASE_SECONDS);
      this.#lease(tx, [...held], leasedUntil);
      const otpsOf = groupBy(otps, ({ userId }) => userId);
      const open = otps.filter((otp) => isOpen(otp, otpsOf.get(otp.userId)!));
      return {
        held,
        open: new Set(open.map(({ otpId }) => otpId)),
        lease: { clock: new EstimatedClock(now, askedAtMs), leasedUntil },
      };
    });
  }

  /** Lets any process take over bundles, at once. */
  release(batchIds: readonly Hex[]): Promise<void> {
    return transaction(this.#parts.pool, async (tx) => {
      const [held, now] = await tx.read(
        lockOwnBatches(batchIds, this.#parts.owner), READ_CLOCK);
      this.#lease(tx, [...held], now);
    });
  }

  #lease(tx: Transaction, batchIds: readonly Hex[], leasedUntil: number): void {
    if (batchIds.length === 0) tx.readOnly();
    else tx.writes.push(leaseBatches(batchIds, { owner: this.#parts.owner, leasedUntil }));
  }

  /** Erases bundles of which nothing is left, and seals what is left of the others anew. */
  save(batches: readonly OutboxBatch[], rerouted: readonly Rerouted[]): Promise<void> {
    const { pool, secrets, owner } = this.#parts;
    // What is left may change while this is under way: then it is saved again.
    const left = batches.filter(({ size }) => size > 0).map((one) => one.seal(secrets.current));
    const done = batches.filter(({ size }) => size === 0).map(({ batchId }) => batchId).sort();
    return transaction(pool, async (tx) => {
      if (rerouted.length > 0) await setChannels(tx, rerouted);
      if (left.length > 0) tx.writes.push(replaceBatches(left, owner));
      if (done.length === 0) return;
      tx.writes.push(deleteBatches(done));
      tx.commitProbe(isBatchDeleted(done[0]!));
    });
  }

  /**
   * Closes codes whose messages no channel will take, and gives their quota points back.
   *
   * @returns those that this happened to, or had happened to before: the others are in bundles that
   *   are not this process's any more
   */
  fail(list: readonly Failed[]): Promise<Set<Hex>> {
    const batchIds = [...new Set(list.map(({ batchId }) => batchId))];
    return transaction(this.#parts.pool, async (tx) => {
      const [users] = await tx.read(findUsers(list));
      const otps = new OtpRows(await lockUsers(tx, users.values()));
      const addresses = new IpLimitRows(await lockAddresses(tx, list));
      const [now, own] = await tx.read(
        READ_CLOCK, lockOwnBatches(batchIds, this.#parts.owner));
      const ours = list.filter(({ batchId }) => own.has(batchId));
      for (const { otpId, clientIp } of ours) {
        const otp = otps.find(users.get(otpId), otpId);
        if (otp !== null) this.#closeOne(now, otp, clientIp, otps, addresses);
      }
      if (otps.changed.length === 0) tx.readOnly();
      else {
        otps.flush(tx);
        addresses.flush(tx);
      }
      return new Set(ours.map(({ otpId }) => otpId));
    });
  }

  #closeOne(
    now: number,
    otp: Otp,
    address: string | null,
    otps: OtpRows,
    addresses: IpLimitRows,
  ): void {
    const ipWindow = address === null ? null : addresses.of(address);
    const state = { now, otp, otps: otps.of(otp.userId), ipWindow };
    const writes = decideFailure(state, this.#parts.policies.for(otp.purpose));
    if (writes === null) return;
    otps.put(writes.otp);
    if (address !== null && writes.ipChange !== null) addresses.put(address, writes.ipChange);
  }
}

async function setChannels(tx: Transaction, list: readonly Rerouted[]): Promise<void> {
  const otps = new OtpRows(await lockUsers(tx, list.map(({ userId }) => userId)));
  for (const { otpId, userId, channel } of list) {
    const otp = otps.find(userId, otpId);
    if (otp !== null) otps.put({ ...otp, channel });
  }
  otps.flush(tx);
}

async function lockUsers(tx: Transaction, users: Iterable<string>): Promise<Otp[]> {
  const unique = [...new Set(users)];
  return unique.length === 0 ? [] : (await tx.read(lockOtps(unique)))[0];
}

async function lockAddresses(tx: Transaction, list: readonly Failed[]) {
  const addresses = new Set<string>();
  for (const { clientIp } of list) if (clientIp !== null) addresses.add(clientIp);
  return addresses.size === 0 ? [] : (await tx.read(lockSlots([...addresses])))[0];
}

const BATCH_MAX = 500;
const WAITING_MAX = 10_000;

/**
 * - `ours`: the message is to be sent, and the lease is renewed.
 * - `ended`: its code cannot be redeemed any more.
 * - `lost`: another process has taken it over.
 */
type Renewal = 'ours' | 'ended' | 'lost';

/** Collects for an outbox. All of it throws Unavailable when the database is away. */
export class OutboxQueue {
  readonly #renewals: Batcher<PendingMessage, Renewal>;
  readonly #failures: Batcher<Failed, boolean>;

  constructor(outbox: Outbox) {
    const limits = {
      concurrencyMax: 1, batchMax: BATCH_MAX, backlogPerBatch: 1, waitingMax: WAITING_MAX,
      // One list at a time: no two of them can meet.
      lockKeysOf: () => [],
    };
    this.#renewals = new Batcher({ ...limits, run: (list) => renewAll(outbox, list) });
    this.#failures = new Batcher({
      ...limits,
      run: async (list) => {
        const closed = await outbox.fail(list);
        return list.map(({ otpId }) => closed.has(otpId));
      },
    });
  }

  /** Asks whether a message is to be sent still, and renews its lease. */
  renew(parcel: PendingMessage): Promise<Renewal> {
    return this.#renewals.submit(parcel);
  }

  /** Closes the code of a message that no channel will take; false when it was not ours to. */
  fail(failed: Failed): Promise<boolean> {
    return this.#failures.submit(failed);
  }
}

async function renewAll(outbox: Outbox, messages: readonly PendingMessage[]): Promise<Renewal[]> {
  const { held, open, lease } = await outbox.renew(messages);
  return messages.map((parcel) => {
    if (!held.has(parcel.batch.batchId)) return 'lost';
    parcel.batch.renew(lease);
    if (!open.has(parcel.message.otpId)) return 'ended';
    parcel.noteRenewal();
    return 'ours';
  });
}
