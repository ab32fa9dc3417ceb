/**
 * Chooses the channel for each attempt. A circuit breaker per channel keeps messages away from a
 * provider that is down: after repeated failures the channel is paused, then one message probes it.
 */
import type { Channel, SendResult } from '../channels/channel.ts';
import type { Sealable } from '../crypto/sealed-messages.ts';
import { monotonicMs } from '../../db/clock.ts';
import type { OnDeliveryEvent } from './events.ts';
import type { DeliveryCounts } from './events.ts';
import type { PendingMessage } from './pending-message.ts';

/** Consecutive failures that pause a channel. */
const FAILURES_MAX = 5;
const FIRST_PAUSE_MS = 1000;
const PAUSE_MAX_MS = 30_000;

type Attempt = Readonly<{ generation: number; isProbe: boolean }>;

/** The circuit breaker of one channel. All times are milliseconds of one monotonic clock. */
export class CircuitBreaker {
  #failures = 0;
  #pauseMs = 0;
  #pausedUntilMs: number | null = null;
  #isProbing = false;
  /**
   * Increases with each pause: the result of an attempt that began before the pause is ignored.
   */
  #generation = 0;

  /**
   * False during a pause, and while a probe is in flight: a paused channel gets one attempt at a
   * time.
   */
  canBegin(nowMs: number): boolean {
    if (this.#pausedUntilMs === null) return true;
    return !this.#isProbing && this.#pausedUntilMs <= nowMs;
  }

  /** Milliseconds until the pause ends; 0 when there is none or a probe is in flight. */
  readyInMs(nowMs: number): number {
    return Math.max(0, (this.#pausedUntilMs ?? nowMs) - nowMs);
  }

  begin(): Attempt {
    const isProbe = this.#pausedUntilMs !== null;
    this.#isProbing ||= isProbe;
    return { generation: this.#generation, isProbe };
  }

  /**
   * Records the end of an attempt. A refused message is not a failure of the channel.
   * @returns the change of state that the attempt caused, if any
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

export type PickerDeps = Readonly<{
  /** In the order in which they are tried. */
  channels: readonly Channel[];
  onEvent: OnDeliveryEvent;
  counts: DeliveryCounts;
  /** Where the provider of a message reports on it. */
  reportPathOf: (sealable: Sealable) => string;
}>;

export class ChannelPicker {
  readonly #channels: readonly Channel[];
  readonly #onEvent: OnDeliveryEvent;
  readonly #reportPathOf: PickerDeps['reportPathOf'];
  readonly #breakers: ReadonlyMap<Channel, CircuitBreaker>;
  readonly #counts: DeliveryCounts;
  /** Of the last attempt of each channel that failed. */
  readonly #lastReasons = new Map<Channel, string>();

  constructor({ channels, onEvent, counts, reportPathOf }: PickerDeps) {
    this.#channels = channels;
    this.#onEvent = onEvent;
    this.#reportPathOf = reportPathOf;
    this.#counts = counts;
    this.#breakers = new Map(channels.map((channel) => [channel, new CircuitBreaker()]));
  }

  /** Whether a channel is left that can reach the user and has not refused the message. */
  hasChannelFor(pending: PendingMessage): boolean {
    return pending.remainingChannels(this.#channels).length > 0;
  }

  /**
   * The channel for the next attempt; null while every remaining channel is paused or has asked for
   * a delay (Retry-After).
   */
  pick(pending: PendingMessage): Channel | null {
    const now = monotonicMs();
    return pending.readyChannels(pending.remainingChannels(this.#channels))
      .find((channel) => this.#breakers.get(channel)!.canBegin(now)) ?? null;
  }

  /** Lets a message that waits for a paused channel without an attempt of its own say why. */
  explainWait(pending: PendingMessage): void {
    if (pending.failure !== null) return;
    const [channel] = pending.remainingChannels(this.#channels);
    const reason = channel === undefined ? undefined : this.#lastReasons.get(channel);
    if (channel === undefined || reason === undefined) return;
    pending.failure = { channel: channel.name, reason: `paused after ${reason}` };
  }

  /** Whether a channel may be tried now that has not denied the message. */
  hasUndenied(pending: PendingMessage): boolean {
    const next = this.pick(pending);
    return next !== null && !pending.wasDenied(next);
  }

  /** Milliseconds until `pick` may find a channel. */
  readyInMs(pending: PendingMessage): number {
    const now = monotonicMs();
    return Math.min(...pending.remainingChannels(this.#channels).map((channel) =>
      Math.max(this.#breakers.get(channel)!.readyInMs(now), pending.readyInMs(channel))));
  }

  /**
   * Makes one attempt and records the result in the message, the breaker and the counts. Never
   * throws.
   */
  async send(pending: PendingMessage, channel: Channel): Promise<SendResult['kind']> {
    const breaker = this.#breakers.get(channel)!;
    const attempt = breaker.begin();
    const result = await (channel.readReport === undefined
      ? channel.send(pending.message, pending.now())
      : channel.send(pending.message, pending.now(), this.#reportPathOf(pending.stored)));
    const hasFailed = result.kind === 'retry' || result.kind === 'denied';
    const change = breaker.end(attempt, hasFailed, monotonicMs());
    const { name } = channel;
    const counts = this.#counts.channels.get(name)!;
    counts[result.kind] += 1;
    if (change !== null) counts.isPaused = change === 'paused';
    const reason = 'reason' in result ? result.reason : result.kind;
    if (hasFailed) this.#lastReasons.set(channel, reason);
    if (change !== null) this.#onEvent({ event: `channel_${change}`, channel: name, reason });
    if (result.kind === 'accepted') return result.kind;
    pending.recordFailure(channel, result);
    const event = `delivery_${result.kind}` as const;
    const { otpId, userId } = pending.message;
    this.#onEvent({ event, otpId, userId, channel: name, reason });
    return result.kind;
  }

  close(): void {
    for (const channel of this.#channels) channel.close();
  }
}
