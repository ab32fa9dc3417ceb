/** The outbox table as one process uses it: lease, renew, reclaim, release, close and erase. */
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
import { findUsers, lockOtps, readOtps } from '../../db/tables/otps.ts';
import type { DeliveryFailure, Otp } from '../../db/tables/otps.ts';
import { storeFailures } from '../../db/tables/otps-write.ts';
import type { FailedDelivery } from '../../db/tables/otps-write.ts';
import {
  claimBatches, deleteBatches, findExpiredBatches, findLongLeases, isBatchDeleted, leaseBatches,
  lockOwnBatches, readClaimed, replaceBatches, shortenLeases,
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

/**
 * A message that was accepted after the OTP row was written: by another channel than the row names,
 * or after a failure that the row does not say; null when it does.
 */
export type Rerouted = Readonly<{
  otpId: Hex; userId: string; channel: string; failure: DeliveryFailure | null;
  /** The channel that the row named when the message was taken up; '' if unknown. */
  plannedChannel: string;
}>;

/**
 * An OTP whose message no channel accepts, with its user and the subjects whose points it took, as
 * far as they are known.
 */
type FailedOtp = Readonly<{
  otpId: Hex; userId: string | null; batchId: Hex; subjects: readonly string[];
  failure: DeliveryFailure;
}>;

type OutboxDeps = Readonly<{
  pool: ConnectionPool;
  policies: Policies;
  secrets: Secrets;
  /** The id of this process, OWNER_BYTES long. */
  owner: Hex;
}>;

/** Calls that arrive during a transaction share the next one. */
export const BATCH_LIMITS = Object.freeze({
  concurrencyMax: 1, batchMax: 500, backlogPerBatch: 1, waitingMax: 10_000,
  // Batches run one after the other and need no lock keys.
  lockKeysOf: () => [],
});

/**
 * - `ours`: the message may be sent, and its lease is renewed.
 * - `ended`: the OTP can no longer be redeemed.
 * - `lost`: another process has reclaimed the batch.
 */
type Renewal = 'ours' | 'ended' | 'lost';

/** Every method throws Unavailable when the database cannot answer. */
export class Outbox {
  readonly #deps: OutboxDeps;
  readonly #renewals: Batcher<PendingMessage, Renewal>;
  readonly #failures: Batcher<FailedOtp, boolean>;

  constructor(deps: OutboxDeps) {
    this.#deps = deps;
    this.#renewals = new Batcher({ ...BATCH_LIMITS, run: (list) => this.#renewAll(list) });
    this.#failures = new Batcher({ ...BATCH_LIMITS, run: (list) => this.#failAll(list) });
  }

  /** Checks that a message may still be sent, and renews its lease. */
  renew(message: PendingMessage): Promise<Renewal> {
    return this.#renewals.submit(message);
  }

  /** Closes an OTP and refunds its points. False when another process has reclaimed the batch. */
  fail(failed: FailedOtp): Promise<boolean> {
    return this.#failures.submit(failed);
  }

  /** Leases at most `max` batches whose lease has expired, to this process. */
  reclaim(
    max: number,
  ): Promise<Readonly<{ batches: readonly SealedBatch[]; lease: HeldLease }>> {
    return transaction(this.#deps.pool, async (tx) => {
      const askedAtMs = monotonicMs();
      const [long, expired, now] = await tx.read(
        findLongLeases(LEASE_SECONDS), findExpiredBatches(max), READ_CLOCK);
      const leasedUntil = addSeconds(now, LEASE_SECONDS);
      const lease = { clock: new EstimatedClock(now, askedAtMs), leasedUntil };
      if (long.length > 0) await tx.writeNow(shortenLeases(long, LEASE_SECONDS));
      if (expired.length === 0) {
        tx.readOnly();
        return { batches: [], lease };
      }
      const stored = { owner: this.#deps.owner, leasedUntil };
      await tx.writeNow(claimBatches(expired, stored));
      const [batches] = await tx.read(readClaimed(expired, stored));
      return { batches, lease };
    });
  }

  async #renewAll(messages: readonly PendingMessage[]): Promise<Renewal[]> {
    const batchIds = [...new Set(messages.map(({ batch }) => batch.batchId))];
    const users = [...new Set(messages.map(({ message }) => message.userId))];
    const { own, open, lease } = await transaction(this.#deps.pool, async (tx) => {
      const askedAtMs = monotonicMs();
      const failed = await lockFailed(tx, messages);
      const [own, otps, now] = await tx.read(
        lockOwnBatches(batchIds, this.#deps.owner), readOtps(users), READ_CLOCK);
      const leasedUntil = addSeconds(now, LEASE_SECONDS);
      noteFailures(tx, failed.filter(({ batchId }) => own.has(batchId)));
      this.#lease(tx, [...own], leasedUntil);
      const otpsOf = groupBy(otps, ({ userId }) => userId);
      const open = otps.filter((otp) => isOpen(otp, otpsOf.get(otp.userId)!));
      return {
        own,
        open: new Set(open.map(({ otpId }) => otpId)),
        lease: { clock: new EstimatedClock(now, askedAtMs), leasedUntil },
      };
    });
    return messages.map((pending) => {
      if (!own.has(pending.batch.batchId)) return 'lost';
      pending.batch.renew(lease);
      if (!open.has(pending.message.otpId)) return 'ended';
      pending.onRenewed();
      return 'ours';
    });
  }

  /** Ends the leases of batches, so that any process can reclaim them immediately. */
  release(batchIds: readonly Hex[]): Promise<void> {
    return transaction(this.#deps.pool, async (tx) => {
      const [own, now] = await tx.read(
        lockOwnBatches(batchIds, this.#deps.owner), READ_CLOCK);
      this.#lease(tx, [...own], now);
    });
  }

  #lease(tx: Transaction, batchIds: readonly Hex[], leasedUntil: number): void {
    if (batchIds.length === 0) tx.readOnly();
    else tx.writes.push(leaseBatches(batchIds, { owner: this.#deps.owner, leasedUntil }));
  }

  /** Erases the finished batches and reseals the messages that are left in the others. */
  save(batches: readonly OutboxBatch[], rerouted: readonly Rerouted[]): Promise<void> {
    const { pool, secrets, owner } = this.#deps;
    // A batch that changes during the transaction is saved again later.
    const remaining = batches.filter(({ size }) => size > 0)
      .map((batch) => batch.seal(secrets.current));
    const erased = batches.filter(({ size }) => size === 0).map(({ batchId }) => batchId).sort();
    return transaction(pool, async (tx) => {
      if (rerouted.length > 0) await setChannels(tx, rerouted);
      if (remaining.length > 0) tx.writes.push(replaceBatches(remaining, owner));
      if (erased.length === 0) return;
      tx.writes.push(deleteBatches(erased));
      tx.commitProbe(isBatchDeleted(erased[0]!));
    });
  }

  #failAll(list: readonly FailedOtp[]): Promise<boolean[]> {
    const batchIds = [...new Set(list.map(({ batchId }) => batchId))];
    return transaction(this.#deps.pool, async (tx) => {
      const users = await findUsersOf(tx, list);
      const otps = new OtpRows(await lockUsers(tx, users.values()));
      const ipLimits = new IpLimitRows(await lockIpLimits(tx, list));
      const [now, own] = await tx.read(
        READ_CLOCK, lockOwnBatches(batchIds, this.#deps.owner));
      const failed: FailedDelivery[] = [];
      for (const { otpId, batchId, subjects, failure } of list) {
        const otp = own.has(batchId) ? otps.find(users.get(otpId), otpId) : null;
        const rows = { now, otps, ipLimits };
        if (otp === null || !closeFailed(otp, subjects, rows, this.#deps.policies)) continue;
        failed.push({ otp, failure });
      }
      if (failed.length === 0) tx.readOnly();
      else {
        otps.flush(tx);
        noteFailures(tx, failed);
        ipLimits.flush(tx);
      }
      return list.map(({ batchId }) => own.has(batchId));
    });
  }

}

type FailureRows = Readonly<{ now: number; otps: OtpRows; ipLimits: IpLimitRows }>;

/**
 * Closes an OTP and refunds its points, in rows that are locked.
 * @returns false when it is redeemed or closed, so that nothing changes
 */
export function closeFailed(
  otp: Otp,
  subjects: readonly string[],
  { now, otps, ipLimits }: FailureRows,
  policies: Policies,
): boolean {
  const windows = subjects.map((subject) => ({ subject, window: ipLimits.windowOf(subject) }));
  const state = { now, otp, otps: otps.of(otp.userId), windows };
  const writes = decideFailure(state, policies.for(otp.purpose));
  if (writes === null) return false;
  otps.put(writes.otp);
  for (const { subject, change } of writes.refunds) ipLimits.put(subject, change);
  return true;
}

async function findUsersOf(
  tx: Transaction,
  list: readonly FailedOtp[],
): Promise<ReadonlyMap<Hex, string>> {
  const unknown = list.filter(({ userId }) => userId === null);
  const [found] = unknown.length === 0 ? [[]] : await tx.read(findUsers(unknown));
  return new Map([...found, ...list.flatMap(({ otpId, userId }) =>
    (userId === null ? [] : [[otpId, userId] as const]))]);
}

async function setChannels(tx: Transaction, list: readonly Rerouted[]): Promise<void> {
  const otps = new OtpRows(await lockUsers(tx, list.map(({ userId }) => userId)));
  const failed: FailedDelivery[] = [];
  for (const { otpId, userId, plannedChannel, channel, failure } of list) {
    const otp = otps.find(userId, otpId);
    // A report on the message may have named the next channel in the meantime.
    const isCurrent = plannedChannel === '' || otp?.channel === plannedChannel;
    if (otp !== null && isCurrent) otps.put({ ...otp, channel });
    failed.push(...toFailedDelivery(otp, failure));
  }
  otps.flush(tx);
  noteFailures(tx, failed);
}

/** Locks the OTPs of messages with a new failure, before the outbox as the lock order demands. */
async function lockFailed(
  tx: Transaction,
  messages: readonly PendingMessage[],
): Promise<(FailedDelivery & Readonly<{ batchId: Hex }>)[]> {
  const failed = messages.filter(({ newFailure }) => newFailure !== null);
  const otps = new OtpRows(await lockUsers(tx, failed.map(({ message }) => message.userId)));
  return failed.flatMap(({ message: { userId, otpId }, batch: { batchId }, newFailure }) =>
    toFailedDelivery(otps.find(userId, otpId), newFailure).map((one) => ({ ...one, batchId })));
}

function toFailedDelivery(otp: Otp | null, failure: DeliveryFailure | null): FailedDelivery[] {
  return otp === null || failure === null ? [] : [{ otp, failure }];
}

/** @param failed OTPs that are locked */
export function noteFailures(tx: Transaction, failed: readonly FailedDelivery[]): void {
  if (failed.length > 0) tx.writes.push(storeFailures(failed));
}

export async function lockUsers(tx: Transaction, users: Iterable<string>): Promise<Otp[]> {
  const unique = [...new Set(users)];
  return unique.length === 0 ? [] : (await tx.read(lockOtps(unique)))[0];
}

export async function lockIpLimits(
  tx: Transaction,
  list: readonly Readonly<{ subjects: readonly string[] }>[],
) {
  const subjects = new Set(list.flatMap((failed) => failed.subjects));
  return subjects.size === 0 ? [] : (await tx.read(lockSlots([...subjects])))[0];
}
