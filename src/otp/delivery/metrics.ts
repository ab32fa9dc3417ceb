/** What the delivery of messages counts. */
import type { Channel, ChannelName, SendResult } from '../channels/channel.ts';
import { counter, gauge } from '../../metrics/families.ts';
import type { Family } from '../../metrics/families.ts';

/** Why a code was closed: no channel took its message, or it could not be read. */
type FailureReason = 'refused' | 'expired' | 'unreadable';

/** What is counted of one channel. */
type ChannelCounts = Record<SendResult['kind'], number> & { isPaused: boolean };

/** The counts of one process's delivery. */
export class DeliveryCounts {
  readonly channels: ReadonlyMap<ChannelName, ChannelCounts>;
  readonly failed: Record<FailureReason, number> = { refused: 0, expired: 0, unreadable: 0 };
  /** Messages that another process had left. */
  reclaimed = 0;
  /** Messages that this process has and that no channel has accepted yet. */
  pending = 0;

  /** @param channels those that there are */
  constructor(channels: readonly Channel[]) {
    this.channels = new Map(channels.map(({ name }) =>
      [name, { accepted: 0, retry: 0, refused: 0, isPaused: false }]));
  }
}

/** What was counted. */
export function deliveryFamilies(counts: DeliveryCounts): Family[] {
  const { channels, failed, reclaimed, pending } = counts;
  const list = [...channels];
  const results = ['accepted', 'retry', 'refused'] as const;
  return [
    counter('otpd_deliveries_total', 'Attempts to send a message, by channel and result.',
      list.flatMap(([channel, counts]) =>
        results.map((result) => [{ channel, result }, counts[result]] as const))),
    counter('otpd_codes_failed_total',
      'Codes that were closed because their message could not be delivered.',
      Object.entries(failed).map(([reason, count]) => [{ reason }, count] as const)),
    counter('otpd_messages_taken_over_total', 'Messages that another process had left.', reclaimed),
    gauge('otpd_channel_paused', 'Processes that have paused the channel.',
      list.map(([channel, { isPaused }]) => [{ channel }, Number(isPaused)] as const)),
    gauge('otpd_outbox_messages', 'Messages that are on their way.', pending),
  ];
}
