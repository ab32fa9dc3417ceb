/**
 * One row of the outbox in the memory of the process that owns it: its unsent messages and its
 * lease.
 */
import { SEND_TIMEOUT_MS } from '../channels/channel.ts';
import type { Message } from '../channels/channel.ts';
import { sealMessages } from '../crypto/sealed-messages.ts';
import type { Sealable } from '../crypto/sealed-messages.ts';
import type { Secret } from '../crypto/secrets.ts';
import type { EstimatedClock } from '../../db/clock.ts';
import { MICROSECONDS_PER_MILLISECOND } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { Hex } from '../../db/query.ts';
import type { SealedBatch } from '../../db/tables/outbox.ts';

/**
 * How long no other process may send the messages of a batch: long enough for two attempts, and
 * short enough that the messages of a dead process still reach their users in time.
 */
export const LEASE_SECONDS = 20;

/** Margin for delays between the check of the lease and the start of an attempt. */
const LEASE_RESERVE_MS = 2000;

/** A lease, with an estimate of the database's clock to measure it against. */
export type HeldLease = Readonly<{ clock: EstimatedClock; leasedUntil: Instant }>;

/** A message as the outbox stores it, and the channel that the OTP row names; '' if unknown. */
export type OutboxMessage = Sealable & Readonly<{ plannedChannel: string }>;

export class OutboxBatch {
  readonly batchId: Hex;
  /** The messages without a final result, by otp_id. */
  readonly #messages: Map<Hex, OutboxMessage>;
  #lease: HeldLease;

  constructor(batchId: Hex, messages: readonly OutboxMessage[], lease: HeldLease) {
    this.batchId = batchId;
    this.#messages = new Map(messages.map((one) => [one.message.otpId, one]));
    this.#lease = lease;
  }

  get messages(): Iterable<OutboxMessage> {
    return this.#messages.values();
  }

  get size(): number {
    return this.#messages.size;
  }

  /** An estimate of the database's clock. */
  now(): Instant {
    return this.#lease.clock.now();
  }

  /** Whether an attempt that starts now ends before another process may reclaim the batch. */
  get leaseCoversAttempt(): boolean {
    return this.renewInMs > 0;
  }

  /** Milliseconds until the lease no longer covers an attempt; not above 0 when it does not now. */
  get renewInMs(): number {
    const { leasedUntil } = this.#lease;
    const leftMs = (leasedUntil - this.now()) / MICROSECONDS_PER_MILLISECOND;
    return leftMs - SEND_TIMEOUT_MS - LEASE_RESERVE_MS;
  }

  renew(lease: HeldLease): void {
    this.#lease = lease;
  }

  /** Removes a message that has a final result. */
  settle({ otpId }: Message): void {
    this.#messages.delete(otpId);
  }

  /** Seals the messages that are left, under a fresh nonce. */
  seal(secret: Secret): SealedBatch {
    const list = [...this.#messages.values()];
    return {
      batchId: this.batchId,
      otpIds: list.map(({ message }) => message.otpId),
      keyId: secret.id,
      sealed: sealMessages(secret, this.batchId, list),
    };
  }
}
