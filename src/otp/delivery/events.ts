/**
 * What delivery reports of itself: events for the log, and counts for metrics. Neither contains a
 * code or text from a provider.
 */
import type { Channel, ChannelName, SendResult } from '../channels/channel.ts';
import { counter, gauge, processGauge } from '../../metrics/families.ts';
import type { Family } from '../../metrics/families.ts';
import type { Hex } from '../../db/query.ts';

/**
 * - `delivery_retry`: an attempt failed; the message is tried again.
 * - `delivery_denied`: the provider refused otpd itself; the message is tried again, by the next
 *   channel first.
 * - `delivery_refused`: a channel refused the message for good; the next channel is tried.
 * - `delivery_undelivered`: a provider reports that a message that it had accepted has failed; the
 *   next channel is tried.
 * - `delivery_failed`: no channel accepted the message in time; the OTP is closed.
 * - `delivery_unreadable`: the message is sealed under an unknown secret; the OTP is closed.
 * - `delivery_taken_over`: `count` messages of other processes were reclaimed.
 * - `channel_paused`, `channel_resumed`: the circuit breaker of a channel opened or closed.
 * - `delivery_fault`: an internal error, in `error`.
 */
export type DeliveryEvent = Readonly<{
  event:
    | 'delivery_retry'
    | 'delivery_denied'
    | 'delivery_refused'
    | 'delivery_undelivered'
    | 'delivery_failed'
    | 'delivery_unreadable'
    | 'delivery_taken_over'
    | 'channel_paused'
    | 'channel_resumed'
    | 'delivery_fault';
  otpId?: Hex;
  /** The recipient. The log replaces the value with a pseudonym unless LOG_RAW_IDS is set. */
  userId?: string;
  channel?: ChannelName;
  reason?: string;
  count?: number;
  error?: unknown;
}>;

/** Must not throw: delivery does not catch its exceptions. */
export type OnDeliveryEvent = (event: DeliveryEvent) => void;

/** Why an OTP was closed. `unreadable`: its message is sealed under an unknown secret. */
type FailureReason = 'refused' | 'expired' | 'unreadable';

/** `undelivered`: accepted, and reported as failed later. */
type ChannelCounts = Record<SendResult['kind'] | 'undelivered', number> & { isPaused: boolean };

export class DeliveryCounts {
  readonly channels: ReadonlyMap<ChannelName, ChannelCounts>;
  readonly failed: Record<FailureReason, number> = { refused: 0, expired: 0, unreadable: 0 };
  /** Messages taken over from other processes. */
  reclaimed = 0;
  /** Messages that this process has and that no channel has accepted yet. */
  pending = 0;
  /** The age of the oldest of them; 0 without any. */
  oldestSeconds: () => number = () => 0;

  constructor(channels: readonly Channel[]) {
    this.channels = new Map(channels.map(({ name }) =>
      [name, { accepted: 0, retry: 0, denied: 0, refused: 0, undelivered: 0, isPaused: false }]));
  }
}

export function deliveryFamilies(counts: DeliveryCounts): Family[] {
  const { channels, failed, reclaimed, pending, oldestSeconds } = counts;
  const list = [...channels];
  const results = ['accepted', 'retry', 'denied', 'refused', 'undelivered'] as const;
  return [
    counter('otpd_deliveries_total', 'Attempts to send a message, by channel and result.',
      list.flatMap(([channel, counts]) =>
        results.map((result) => [{ channel, result }, counts[result]] as const))),
    counter('otpd_codes_failed_total',
      'Codes that were closed because their message could not be delivered.',
      Object.entries(failed).map(([reason, count]) => [{ reason }, count] as const)),
    counter('otpd_messages_taken_over_total', 'Messages taken over from other processes.',
      reclaimed),
    gauge('otpd_channel_paused', 'Processes that have paused the channel.',
      list.map(([channel, { isPaused }]) => [{ channel }, Number(isPaused)] as const)),
    gauge('otpd_outbox_messages', 'Messages that no channel has accepted yet.', pending),
    processGauge('otpd_outbox_oldest_seconds',
      'Age of the oldest message that no channel has accepted yet.', oldestSeconds()),
  ];
}
