/** A message on its way, as the process that sends it holds it. */
import { addSeconds } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import type { RunningClock } from '../../db/running-clock.ts';
import { SEND_TIMEOUT_MS } from '../channel.ts';
import type { Channel, Message } from '../channel.ts';
import { backoffMs } from './backoff.ts';

/**
 * How long nobody else may send a message after its owner has said that it will: long enough to
 * send it twice, and short enough that what a dead process has left still reaches its user.
 */
export const LEASE_SECONDS = 20;

/** An attempt must end within its lease, whatever else takes its time. */
const LEASE_RESERVE_MS = 2000;

/** A provider that fails so often in a row is left for the next one, if there is one. */
const ATTEMPTS_BEFORE_NEXT = 3;

/** A message, its lease, and what has been tried. */
export class Parcel {
  readonly message: Message;
  /** Of the client that asked for the code: its quota point may have to be given back. */
  readonly address: string;
  /** The channel that the code's row names. */
  readonly planned: string;
  /** Most messages are accepted at the first attempt, and have none. */
  readonly #tries: Try[] = [];
  /** A channel has accepted it, and it is not erased yet. */
  isAccepted = false;
  #isLeaseInDoubt = false;
  #clock: RunningClock;
  #leasedUntil: Instant;
  #delays = 0;

  constructor(message: Message, address: string, planned: string, lease: ParcelLease) {
    this.message = message;
    this.address = address;
    this.planned = planned;
    this.#clock = lease.clock;
    this.#leasedUntil = lease.leasedUntil;
  }

  /** The database's clock, as far as it is known. */
  now(): Instant {
    return this.#clock.now();
  }

  /** Whether its code has expired. */
  get isExpired(): boolean {
    return this.message.expiresAt <= this.now();
  }

  /**
   * Whether the outbox must be asked before an attempt: it was put off, and may have been
   * superseded or canceled since; or an attempt might not end before others may begin one.
   */
  get mustBeRenewed(): boolean {
    const endsAt = this.now() + (SEND_TIMEOUT_MS + LEASE_RESERVE_MS) * 1000;
    return this.#isLeaseInDoubt || endsAt >= this.#leasedUntil;
  }

  /** Takes a renewed lease. */
  renew({ clock, leasedUntil }: ParcelLease): void {
    this.#clock = clock;
    this.#leasedUntil = leasedUntil;
    this.#isLeaseInDoubt = false;
  }

  /** Puts it off: how many milliseconds, longer each time. */
  putOff(): number {
    this.#isLeaseInDoubt = true;
    this.#delays += 1;
    return backoffMs(this.#delays - 1);
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
      channel.reaches(this.message.userId) && this.#find(channel)?.isRefused !== true);
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

/** A lease as the process that holds it knows it. */
export type ParcelLease = Readonly<{ clock: RunningClock; leasedUntil: Instant }>;
