/** What is told of deliveries, for the log: never a code or a provider's words. */
import type { ChannelName } from '../channels/channel.ts';
import type { Hex } from '../../db/query.ts';

/**
 * - `delivery_retry`: an attempt came to nothing; the message is tried again.
 * - `delivery_refused`: a channel will never take a message; the next one is tried.
 * - `delivery_failed`: no channel took it in time; its code is closed.
 * - `delivery_unreadable`: it was sealed under a secret that is not known; its code is closed.
 * - `delivery_taken_over`: `count` messages that another process had left.
 * - `channel_paused`, `channel_resumed`: a channel keeps failing; it works again.
 * - `delivery_fault`: a mistake of ours, in `error`.
 */
export type DeliveryEvent = Readonly<{
  event:
    | 'delivery_retry'
    | 'delivery_refused'
    | 'delivery_failed'
    | 'delivery_unreadable'
    | 'delivery_taken_over'
    | 'channel_paused'
    | 'channel_resumed'
    | 'delivery_fault';
  otpId?: Hex;
  /** Whom it is for: the log names nobody as they are, unless it is told to. */
  userId?: string;
  channel?: ChannelName;
  reason?: string;
  count?: number;
  error?: unknown;
}>;

/** Takes a note; must not throw. */
export type OnDeliveryEvent = (event: DeliveryEvent) => void;
