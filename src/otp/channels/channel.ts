/** What a channel is: one way of sending messages, behind one function. */
import { isIPv4 } from 'node:net';
import type { Instant } from '../../db/instant.ts';
import type { Hex } from '../../db/query.ts';

/** The channels that DELIVERY can name. */
export const CHANNEL_NAMES = Object.freeze(['console', 'webhook', 'sms', 'email'] as const);
export type ChannelName = (typeof CHANNEL_NAMES)[number];

/** A message: with the words made of it, the only place where a code appears. */
export type Message = Readonly<{
  /** 32 hexadecimal digits: the same whenever the message is sent again. */
  otpId: Hex;
  userId: string;
  purpose: string;
  code: string;
  /** How long the code works, from when it was issued. */
  lifetimeSeconds: number;
  expiresAt: Instant;
  /** Of the templates to use, such as `de` or `pt-br`; '' for the default. */
  locale: string;
}>;

/**
 * How an attempt ended.
 *
 * - `accepted`: the provider has taken the message over.
 * - `retry`: it has not, or may not have; the same message can be sent again.
 * - `refused`: it will never take this message.
 *
 * `reason` goes to the log: a status or an error code, never the provider's text, which may quote
 * the message.
 */
export type SendResult =
  | Readonly<{ kind: 'accepted' }>
  | Readonly<{ kind: 'retry'; reason: string; afterSeconds: number | null }>
  | Readonly<{ kind: 'refused'; reason: string }>;

/** One way of sending. */
export type Channel = Readonly<{
  name: ChannelName;
  /** What a user_id must be to be reached, such as `a phone number`; null: it takes all. */
  addressFormat: string | null;
  /** Whether it can reach a user, by the form of the user_id alone. */
  accepts: (userId: string) => boolean;
  /**
   * Sends a message. Ends within SEND_TIMEOUT_MS, and never throws: what goes wrong is a `retry`.
   *
   * @param sentAt the database's clock, as far as this process knows it
   */
  send: (message: Message, sentAt: Instant) => Promise<SendResult>;
  /** Closes its connections. */
  close: () => void;
}>;

/** A provider that has not answered by then is tried again: some take 5 s on a bad day. */
export const SEND_TIMEOUT_MS = 8000;

/** Whether a host is this machine, so that no network carries what is sent to it. */
export function isLoopbackHost(host: string): boolean {
  return /^(localhost|::1|\[::1\])$/.test(host) || (isIPv4(host) && host.startsWith('127.'));
}

/** The words of messages, made of templates. */
export type Templates = Readonly<{
  /** What goes to a phone or a console: at most 160 GSM-7 characters. */
  text: (message: Message) => string;
  email: (message: Message) => Readonly<{ subject: string; text: string; html: string }>;
  /**
   * The locale of the templates to use.
   *
   * @param acceptLanguage the field of RFC 9110, 12.5.4, of any content; '' when there is none
   * @returns '' for the default
   */
  localeFor: (purpose: string, acceptLanguage: string) => string;
}>;
