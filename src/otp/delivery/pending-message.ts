/** A message that no channel has accepted yet, with the history of its attempts. */
import { addressOf, inOrder } from '../channels/channel.ts';
import type { Channel, Message, SendResult } from '../channels/channel.ts';
import { randomBelow } from '../crypto/random.ts';
import { monotonicMs } from '../../db/clock.ts';
import { MICROSECONDS_PER_MILLISECOND } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { DeliveryFailure } from '../../db/tables/otps.ts';
import { resendId } from '../../db/tables/outbox.ts';
import type { OutboxBatch, OutboxMessage } from './outbox-batch.ts';

/** Failed attempts after which a channel comes after the others. */
const FAILURES_BEFORE_NEXT = 3;

export class PendingMessage {
  readonly message: Message;
  readonly stored: OutboxMessage;
  readonly batch: OutboxBatch;
  /** Stays empty for most messages, because their first attempt is accepted. */
  readonly #attempts: ChannelAttempts[] = [];
  /** Why the message is not sent yet; null before the first attempt. */
  failure: DeliveryFailure | null = null;
  /** What the OTP row says of it, as far as this process knows. */
  #storedFailure: DeliveryFailure | null = null;
  /** By the monotonic clock: the lifetime from now on ends then, if the other clock is set back. */
  readonly #endsAtMs: number;
  #mustAsk: boolean;
  #backoffs = 0;
  /** By the monotonic clock: no attempt is made before. */
  #waitUntilMs = 0;

  /** @param mustAsk whether the message may not be stored, or its OTP closed since */
  constructor(
    stored: OutboxMessage,
    batch: OutboxBatch,
    mustAsk: boolean,
  ) {
    const { message } = stored;
    this.stored = stored;
    this.message = message;
    this.batch = batch;
    this.#mustAsk = mustAsk;
    this.#endsAtMs = monotonicMs() + message.lifetimeSeconds * 1000;
  }

  /** Whether a provider had accepted the message and has reported a failure since. */
  get #isResend(): boolean {
    return this.batch.batchId === resendId(this.message.otpId);
  }

  /** An estimate of the database's clock. */
  now(): Instant {
    return this.batch.now();
  }

  get isExpired(): boolean {
    return this.#expiresInMs <= 0;
  }

  get #expiresInMs(): number {
    const leftMs = (this.message.expiresAt - this.now()) / MICROSECONDS_PER_MILLISECOND;
    return Math.min(leftMs, this.#endsAtMs - monotonicMs());
  }

  /**
   * Whether the database must be asked before the next attempt: the OTP may have been superseded,
   * canceled or redeemed, or the lease may expire during the attempt.
   */
  get mustRenew(): boolean {
    return this.#mustAsk || !this.batch.leaseCoversAttempt;
  }

  /** The failure that the OTP row does not say yet; null when there is nothing new to say. */
  get newFailure(): DeliveryFailure | null {
    const { failure } = this;
    const stored = this.#storedFailure;
    const isStored = stored?.reason === failure?.reason && stored?.channel === failure?.channel;
    return isStored ? null : failure;
  }

  onRenewed(): void {
    this.#mustAsk = false;
    this.#storedFailure = this.failure;
  }

  /**
   * Begins a wait, after which the database is asked before an attempt.
   *
   * @returns the milliseconds until the message must be looked at: the wait is over, the lease must
   *   be renewed, or the OTP expires
   */
  beginWait(delayMs: number): number {
    this.#mustAsk = true;
    this.#waitUntilMs = monotonicMs() + delayMs;
    const boundMs = Math.min(this.batch.renewInMs, this.#expiresInMs);
    return Math.min(delayMs, Math.max(boundMs, BACKOFF_FIRST_MS));
  }

  /** Milliseconds that are left of the wait; 0 when it is over. */
  get waitLeftMs(): number {
    return Math.max(0, this.#waitUntilMs - monotonicMs());
  }

  /** Returns the milliseconds to wait after a failed attempt; they grow with each call. */
  backOff(): number {
    this.#backoffs += 1;
    return backoffMs(this.#backoffs - 1);
  }

  /** Milliseconds until the Retry-After of a channel has passed. */
  readyInMs(channel: Channel): number {
    return Math.max(0, (this.#find(channel)?.notBeforeMs ?? 0) - monotonicMs());
  }

  /** Records an attempt that was not accepted. */
  recordFailure(channel: Channel, result: FailedResult): void {
    const attempts = this.#findOrAdd(channel);
    this.failure = { channel: channel.name, reason: result.reason };
    attempts.isRefused ||= result.kind === 'refused';
    // The channel comes after the others from now on, because it would be denied again soon.
    attempts.isDenied ||= result.kind === 'denied';
    if (result.kind === 'refused') return;
    attempts.failures += 1;
    const { afterSeconds } = result;
    if (afterSeconds !== null) attempts.notBeforeMs = monotonicMs() + afterSeconds * 1000;
  }

  wasDenied(channel: Channel): boolean {
    return this.#find(channel)?.isDenied === true;
  }

  /**
   * The channels that can reach the recipient and have not refused the message, at once or in a
   * report, in their order.
   */
  remainingChannels(channels: readonly Channel[]): Channel[] {
    const address = addressOf(this.message);
    return inOrder(channels, this.message).filter((channel) =>
      channel.accepts(address) && this.#find(channel)?.isRefused !== true
        && !(channel.readReport !== undefined && this.#isResend));
  }

  /** The channels that may be tried now. Those that keep failing come last. */
  readyChannels(channels: readonly Channel[]): readonly Channel[] {
    if (this.#attempts.length === 0) return channels;
    const ready = channels.filter((channel) => this.readyInMs(channel) === 0);
    const keepsFailing = (channel: Channel): boolean =>
      (this.#find(channel)?.failures ?? 0) >= FAILURES_BEFORE_NEXT
        || this.wasDenied(channel);
    return [...ready.filter((channel) => !keepsFailing(channel)), ...ready.filter(keepsFailing)];
  }

  #find(channel: Channel): ChannelAttempts | undefined {
    return this.#attempts.find((entry) => entry.channel === channel);
  }

  #findOrAdd(channel: Channel): ChannelAttempts {
    let attempts = this.#find(channel);
    if (attempts === undefined) {
      attempts = { channel, failures: 0, isDenied: false, isRefused: false, notBeforeMs: 0 };
      this.#attempts.push(attempts);
    }
    return attempts;
  }
}

type FailedResult = Exclude<SendResult, { kind: 'accepted' }>;

type ChannelAttempts = {
  readonly channel: Channel;
  failures: number;
  isDenied: boolean;
  isRefused: boolean;
  /** By the monotonic clock, which is never set. */
  notBeforeMs: number;
};

const BACKOFF_FIRST_MS = 250;
const BACKOFF_MAX_MS = 15_000;

/**
 * Milliseconds to wait: doubled with each wait up to 15 s, and randomized in the upper half.
 * @param waits how many waits came before
 */
export function backoffMs(waits: number): number {
  const maxMs = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(waits, 10));
  return maxMs / 2 + randomBelow(maxMs / 2);
}
