/** One message on its way: its bundle, and what has been tried. */
import type { Channel, Message } from '../channels/channel.ts';
import { randomBelow } from '../crypto/random.ts';
import { addSeconds } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { OutboxBatch, OutboxMessage } from './outbox-batch.ts';

/** A provider that fails so often in a row is left for the next one, if there is one. */
const ATTEMPTS_BEFORE_NEXT = 3;

/** A message and its attempts. */
export class PendingMessage {
  readonly message: Message;
  /** Of the client that asked for the code: its quota point may have to be given back. */
  readonly clientIp: string | null;
  /** The channel that the code's row names. */
  readonly planned: string;
  readonly batch: OutboxBatch;
  /** Most messages are accepted at the first attempt, and have none. */
  readonly #tries: Try[] = [];
  #isInDoubt: boolean;
  #delays = 0;

  /** @param isInDoubt whether the code may have come to an end: it was not committed just now */
  constructor(
    { message, clientIp, planned }: OutboxMessage,
    bundle: OutboxBatch,
    isInDoubt: boolean,
  ) {
    this.message = message;
    this.clientIp = clientIp;
    this.planned = planned;
    this.batch = bundle;
    this.#isInDoubt = isInDoubt;
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
  get mustBeRenewed(): boolean {
    return this.#isInDoubt || !this.batch.isLeased;
  }

  /** The database was asked: it is to be sent, and its lease is renewed. */
  noteRenewal(): void {
    this.#isInDoubt = false;
  }

  /** Puts it off after an attempt: for how many milliseconds, longer each time. */
  putOff(): number {
    this.#isInDoubt = true;
    this.#delays += 1;
    return backoffMs(this.#delays - 1);
  }

  /**
   * Puts it off because there is no channel for it: that is no attempt, and does not make the next
   * one come later.
   *
   * @param readyInMs until there may be one
   */
  putOffFor(readyInMs: number): number {
    this.#isInDoubt = true;
    return readyInMs + backoffMs(0);
  }

  /** Milliseconds for which a channel wants to be left alone. */
  readyInMs(channel: Channel): number {
    const now = this.now();
    return Math.max(0, (this.#find(channel)?.notBefore ?? now) - now) / 1000;
  }

  /** Notes an attempt that came to nothing, and how long its channel wants to be left alone. */
  noteFailure(channel: Channel, afterSeconds: number | null): void {
    const tried = this.#tryOf(channel);
    tried.attempts += 1;
    if (afterSeconds !== null) tried.notBefore = addSeconds(this.now(), afterSeconds);
  }

  /** Notes that a channel will never take it. */
  noteRefusal(channel: Channel): void {
    this.#tryOf(channel).isRefused = true;
  }

  /** Those of channels, in their order, that can reach the user and have not refused. */
  channelsLeft(channels: readonly Channel[]): Channel[] {
    return channels.filter((channel) =>
      channel.accepts(this.message.userId) && this.#find(channel)?.isRefused !== true);
  }

  /** Those of channels that may be asked now, the fresh ones before those that keep failing. */
  channelsReady(channels: readonly Channel[]): readonly Channel[] {
    if (this.#tries.length === 0) return channels;
    const now = this.now();
    const ready = channels.filter((channel) => (this.#find(channel)?.notBefore ?? now) <= now);
    const keepsFailing = (channel: Channel): boolean =>
      (this.#find(channel)?.attempts ?? 0) >= ATTEMPTS_BEFORE_NEXT;
    return [...ready.filter((channel) => !keepsFailing(channel)), ...ready.filter(keepsFailing)];
  }

  #find(channel: Channel): Try | undefined {
    return this.#tries.find((tried) => tried.channel === channel);
  }

  #tryOf(channel: Channel): Try {
    let tried = this.#find(channel);
    if (tried === undefined) {
      tried = { channel, attempts: 0, isRefused: false, notBefore: 0 };
      this.#tries.push(tried);
    }
    return tried;
  }
}

/** What has been tried with one channel. */
type Try = { channel: Channel; attempts: number; isRefused: boolean; notBefore: Instant };

const FIRST_MS = 250;
const LAST_MS = 15_000;

/**
 * Milliseconds to wait: doubled each time up to 15 s, of which a random half.
 *
 * @param times how often was waited before
 */
export function backoffMs(times: number): number {
  const most = Math.min(LAST_MS, FIRST_MS * 2 ** Math.min(times, 10));
  return most / 2 + randomBelow(most / 2);
}
