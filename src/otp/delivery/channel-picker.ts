/**
 * A channel that keeps failing is paused, so that a provider that is down is not asked by every
 * message; after a while one message tries it (the circuit breaker pattern).
 */
import type { Channel, SendResult } from '../channels/channel.ts';
import { monotonicMs } from '../../db/clock.ts';
import type { OnDeliveryEvent } from './events.ts';
import type { DeliveryCounts } from './metrics.ts';
import type { PendingMessage } from './pending-message.ts';

/** So many failures in a row pause a channel. */
const FAILURES_MAX = 5;
const FIRST_PAUSE_MS = 1000;
const PAUSE_MAX_MS = 30_000;

/** One attempt, between its begin and its end. */
type Attempt = Readonly<{ generation: number; isProbe: boolean }>;

/** The breaker of one channel. All times are milliseconds of one running clock. */
export class CircuitBreaker {
  #failures = 0;
  #pauseMs = 0;
  #pausedUntilMs: number | null = null;
  #isProbing = false;
  /** Attempts that began before the pause say nothing about the time after it. */
  #generation = 0;

  /** Whether an attempt may begin. While the channel is tried out, one at a time. */
  canBegin(nowMs: number): boolean {
    if (this.#pausedUntilMs === null) return true;
    return !this.#isProbing && this.#pausedUntilMs <= nowMs;
  }

  /** Milliseconds until it is worth asking again; 0 when it is now, or one tries it out. */
  readyInMs(nowMs: number): number {
    return Math.max(0, (this.#pausedUntilMs ?? nowMs) - nowMs);
  }

  /** Begins an attempt that may begin. */
  begin(): Attempt {
    const isProbe = this.#pausedUntilMs !== null;
    this.#isProbing ||= isProbe;
    return { generation: this.#generation, isProbe };
  }

  /**
   * Ends an attempt. A refusal of one message is no failure of the channel.
   *
   * @returns what it changed: the channel is paused now, or works again, or neither
   */
  end(attempt: Attempt, hasFailed: boolean, nowMs: number): 'paused' | 'resumed' | null {
    if (attempt.isProbe) this.#isProbing = false;
    else if (attempt.generation !== this.#generation) return null;
    if (!hasFailed) return this.#resume();
    this.#failures += 1;
    if (!attempt.isProbe && this.#failures < FAILURES_MAX) return null;
    return this.#pause(nowMs);
  }

  #resume(): 'resumed' | null {
    const wasPaused = this.#pausedUntilMs !== null;
    this.#failures = 0;
    this.#pauseMs = 0;
    this.#pausedUntilMs = null;
    return wasPaused ? 'resumed' : null;
  }

  #pause(nowMs: number): 'paused' | null {
    const wasPaused = this.#pausedUntilMs !== null;
    this.#pauseMs = Math.min(PAUSE_MAX_MS, Math.max(FIRST_PAUSE_MS, this.#pauseMs * 2));
    this.#pausedUntilMs = nowMs + this.#pauseMs;
    this.#generation += 1;
    return wasPaused ? null : 'paused';
  }
}

/** Sends by one channel or another. */
export class ChannelPicker {
  readonly #channels: readonly Channel[];
  readonly #onEvent: OnDeliveryEvent;
  readonly #breakers: ReadonlyMap<Channel, CircuitBreaker>;
  readonly #counts: DeliveryCounts;

  /** @param channels in the order in which they are tried */
  constructor(channels: readonly Channel[], onEvent: OnDeliveryEvent, counts: DeliveryCounts) {
    this.#channels = channels;
    this.#onEvent = onEvent;
    this.#counts = counts;
    this.#breakers = new Map(channels.map((channel) => [channel, new CircuitBreaker()]));
  }

  /** Whether any channel may still take a message: it can reach the user and has not refused. */
  hasChannelFor(pending: PendingMessage): boolean {
    return pending.remainingChannels(this.#channels).length > 0;
  }

  /** The channel to send by now; null when all of them are to be left alone for a while. */
  pick(pending: PendingMessage): Channel | null {
    const now = monotonicMs();
    return pending.readyChannels(pending.remainingChannels(this.#channels))
      .find((channel) => this.#breakers.get(channel)!.canBegin(now)) ?? null;
  }

  /** Milliseconds after which there may be a channel to send by, when there is none now. */
  readyInMs(pending: PendingMessage): number {
    const now = monotonicMs();
    return Math.min(...pending.remainingChannels(this.#channels).map((channel) =>
      Math.max(this.#breakers.get(channel)!.readyInMs(now), pending.readyInMs(channel))));
  }

  /** Makes one attempt, and tells the pending and the breaker how it ended. Never throws. */
  async send(pending: PendingMessage, channel: Channel): Promise<SendResult['kind']> {
    const breaker = this.#breakers.get(channel)!;
    const attempt = breaker.begin();
    const result = await channel.send(pending.message, pending.now());
    const change = breaker.end(attempt, result.kind === 'retry', monotonicMs());
    const { name } = channel;
    const counts = this.#counts.channels.get(name)!;
    counts[result.kind] += 1;
    if (change !== null) counts.isPaused = change === 'paused';
    const reason = 'reason' in result ? result.reason : result.kind;
    if (change !== null) this.#onEvent({ event: `channel_${change}`, channel: name, reason });
    if (result.kind === 'accepted') return result.kind;
    if (result.kind === 'retry') pending.recordFailure(channel, result.afterSeconds);
    else pending.recordRefusal(channel);
    const event = `delivery_${result.kind}` as const;
    const { otpId, userId } = pending.message;
    this.#onEvent({ event, otpId, userId, channel: name, reason });
    return result.kind;
  }

  /** Closes the connections of all channels. */
  close(): void {
    for (const channel of this.#channels) channel.close();
  }
}
