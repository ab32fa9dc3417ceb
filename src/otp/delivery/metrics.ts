/** The counts of message delivery and their metrics. */
import type { Channel, ChannelName, SendResult } from '../channels/channel.ts';
import { counter, gauge } from '../../metrics/families.ts';
import type { Family } from '../../metrics/families.ts';

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

  constructor(channels: readonly Channel[]) {
    this.channels = new Map(channels.map(({ name }) =>
      [name, { accepted: 0, retry: 0, denied: 0, refused: 0, undelivered: 0, isPaused: false }]));
  }
}

export function deliveryFamilies(counts: DeliveryCounts): Family[] {
  const { channels, failed, reclaimed, pending } = counts;
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
  ];
}
