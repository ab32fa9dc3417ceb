/** Delivery events for the log. They never contain a code or text from a provider. */
import type { ChannelName } from '../channels/channel.ts';
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
