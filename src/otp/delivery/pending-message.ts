/** One message on its way: its batch, and what has been tried. */
import type { Channel, Message } from '../channels/channel.ts';
import { randomBelow } from '../crypto/random.ts';
import { addSeconds } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { OutboxBatch, OutboxMessage } from './outbox-batch.ts';

/** A provider that fails so often in a row is left for the next one, if there is one. */
const FAILURES_BEFORE_NEXT = 3;

/** A message and its attempts. */
export class PendingMessage {
  readonly message: Message;
  /** Of the client that asked for the code: its quota point may have to be given back. */
  readonly clientIp: string | null;
  /** The channel that the code's row names. */
  readonly plannedChannel: string;
  readonly batch: OutboxBatch;
  /** Most messages are accepted at the first attempt, and have none. */
  readonly #attempts: ChannelAttempts[] = [];
  #mayBeObsolete: boolean;
  #backoffs = 0;

  /** @param isReclaimed whether the code may have come to an end: it was not committed just now */
  constructor(
    { message, clientIp, plannedChannel }: OutboxMessage,
    batch: OutboxBatch,
    isReclaimed: boolean,
  ) {
    this.message = message;
    this.clientIp = clientIp;
    this.plannedChannel = plannedChannel;
    this.batch = batch;
    this.#mayBeObsolete = isReclaimed;
  }

  /** The database's clock, as far as it is known. */
  now(): Instant {
    return this.batch.now();
  }

  /** Whether its code has expired. */
  get isExpired(): boolean {
    return this.message.expiresAt <= this.now();
  }

  /**
   * Whether the database must be asked before an attempt: the code may have been superseded,
   * canceled or redeemed since; or an attempt might not end before others may begin one.
   */
  get mustRenew(): boolean {
    return this.#mayBeObsolete || !this.batch.leaseCoversAttempt;
  }

  /** The database was asked: it is to be sent, and its lease is renewed. */
  onRenewed(): void {
    this.#mayBeObsolete = false;
  }

  /** Puts it off after an attempt: for how many milliseconds, longer each time. */
  backOff(): number {
    this.#mayBeObsolete = true;
    this.#backoffs += 1;
    return backoffMs(this.#backoffs - 1);
  }

  /**
   * Puts it off because there is no channel for it: that is no attempt, and does not make the next
   * one come later.
   *
   * @param readyInMs until there may be one
   */
  waitForChannel(readyInMs: number): number {
    this.#mayBeObsolete = true;
    return readyInMs + backoffMs(0);
  }

  /** Milliseconds for which a channel wants to be left alone. */
  readyInMs(channel: Channel): number {
    const now = this.now();
    return Math.max(0, (this.#find(channel)?.notBefore ?? now) - now) / 1000;
  }

  /** Notes an attempt that came to nothing, and how long its channel wants to be left alone. */
  recordFailure(channel: Channel, afterSeconds: number | null): void {
    const attempts = this.#findOrAdd(channel);
    attempts.failures += 1;
    if (afterSeconds !== null) attempts.notBefore = addSeconds(this.now(), afterSeconds);
  }

  /** Notes that a channel will never take it. */
  recordRefusal(channel: Channel): void {
    this.#findOrAdd(channel).isRefused = true;
  }

  /** Those of channels, in their order, that can reach the user and have not refused. */
  remainingChannels(channels: readonly Channel[]): Channel[] {
    return channels.filter((channel) =>
      channel.accepts(this.message.userId) && this.#find(channel)?.isRefused !== true);
  }

  /** Those of channels that may be asked now, the fresh ones before those that keep failing. */
  readyChannels(channels: readonly Channel[]): readonly Channel[] {
    if (this.#attempts.length === 0) return channels;
    const now = this.now();
    const ready = channels.filter((channel) => (this.#find(channel)?.notBefore ?? now) <= now);
    const keepsFailing = (channel: Channel): boolean =>
      (this.#find(channel)?.failures ?? 0) >= FAILURES_BEFORE_NEXT;
    return [...ready.filter((channel) => !keepsFailing(channel)), ...ready.filter(keepsFailing)];
  }

  #find(channel: Channel): ChannelAttempts | undefined {
    return this.#attempts.find((entry) => entry.channel === channel);
  }

  #findOrAdd(channel: Channel): ChannelAttempts {
    let attempts = this.#find(channel);
    if (attempts === undefined) {
      attempts = { channel, failures: 0, isRefused: false, notBefore: 0 };
      this.#attempts.push(attempts);
    }
    return attempts;
  }
}

/** What has been tried with one channel. */
type ChannelAttempts = {
  readonly channel: Channel;
  failures: number;
  isRefused: boolean;
  notBefore: Instant;
};

const BACKOFF_FIRST_MS = 250;
const BACKOFF_MAX_MS = 15_000;

/**
 * Milliseconds to wait: doubled each time up to 15 s, of which a random half.
 *
 * @param waits how often was waited before
 */
export function backoffMs(waits: number): number {
  const maxMs = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(waits, 10));
  return maxMs / 2 + randomBelow(maxMs / 2);
}
