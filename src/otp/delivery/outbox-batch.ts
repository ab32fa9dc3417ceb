/** Messages that are one row of the outbox, as the process that sends them holds them. */
import { SEND_TIMEOUT_MS } from '../channels/channel.ts';
import type { Message } from '../channels/channel.ts';
import { sealMessages } from '../crypto/sealed-messages.ts';
import type { Sealable } from '../crypto/sealed-messages.ts';
import type { Secret } from '../crypto/secrets.ts';
import type { EstimatedClock } from '../../db/clock.ts';
import type { Instant } from '../../db/instant.ts';
import type { Hex } from '../../db/query.ts';
import type { SealedBatch } from '../../db/tables/outbox.ts';

/**
 * How long nobody else may send a message after its owner has said that it will: long enough to
 * send it twice, and short enough that what a dead process has left still reaches its user.
 */
export const LEASE_SECONDS = 20;

/** An attempt must end within its lease, whatever else takes its time. */
const LEASE_RESERVE_MS = 2000;

/** A lease as the process that holds it knows it. */
export type HeldLease = Readonly<{ clock: EstimatedClock; leasedUntil: Instant }>;

/** A message, with the channel that its code's row names. */
export type OutboxMessage = Sealable & Readonly<{ plannedChannel: string }>;

/** A batch and its lease. */
export class OutboxBatch {
  readonly batchId: Hex;
  /** What neither was accepted nor has come to an end. */
  readonly #messages: Map<Hex, OutboxMessage>;
  #lease: HeldLease;

  constructor(batchId: Hex, messages: readonly OutboxMessage[], lease: HeldLease) {
    this.batchId = batchId;
    this.#messages = new Map(messages.map((one) => [one.message.otpId, one]));
    this.#lease = lease;
  }

  /** The messages that are left. */
  get messages(): Iterable<OutboxMessage> {
    return this.#messages.values();
  }

  /** How many they are. */
  get size(): number {
    return this.#messages.size;
  }

  /** The database's clock, as far as it is known. */
  now(): Instant {
    return this.#lease.clock.now();
  }

  /** Whether an attempt that begins now ends before somebody else may begin one. */
  get leaseCoversAttempt(): boolean {
    const endsAt = this.now() + (SEND_TIMEOUT_MS + LEASE_RESERVE_MS) * 1000;
    return endsAt < this.#lease.leasedUntil;
  }

  /** Takes a renewed lease. */
  renew(lease: HeldLease): void {
    this.#lease = lease;
  }

  /** Leaves a message out: it was accepted, or has come to another end. */
  settle({ otpId }: Message): void {
    this.#messages.delete(otpId);
  }

  /** What is left of it, sealed anew. */
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
