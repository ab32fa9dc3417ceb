/**
 * The contract between delivery and a channel: what a channel gets, and the result that it returns.
 */
import { isIPv4 } from 'node:net';
import type { Instant } from '../../db/instant.ts';
import type { Hex } from '../../db/query.ts';

/** The values that DELIVERY accepts. */
export const CHANNEL_NAMES = Object.freeze(['console', 'webhook', 'sms', 'email'] as const);
export type ChannelName = (typeof CHANNEL_NAMES)[number];

/**
 * The part of a message that a template renders: the text for a phone, the console or a webhook, or
 * one of the three parts of an e-mail.
 */
export type TemplatePart = 'txt' | 'subject.txt' | 'email.txt' | 'html';

/** Where the message of a user goes: to the user_id, unless the request says where. */
export type Recipient = Readonly<{ userId: string; to?: string | null | undefined }>;

/** A message to one user. Nothing else, except the text rendered from it, contains the code. */
export type Message = Recipient & Readonly<{
  /** 32 hexadecimal digits, the same in every attempt. */
  otpId: Hex;
  purpose: string;
  /** The channel to try first; without it, or with null, the first one of the list. */
  channel?: ChannelName | null | undefined;
  code: string;
  /** Counted from the time of the request. */
  lifetimeSeconds: number;
  expiresAt: Instant;
  /** The language tag of the templates, such as `de` or `pt-br`; '' for the default language. */
  locale: string;
}>;

/**
 * The result of one attempt.
 *
 * - `accepted`: the provider has taken over the message.
 * - `retry`: the attempt failed, or its result is unknown; the same message can be sent again.
 * - `denied`: the provider refuses otpd, whatever the message: the account, the sender, the address
 *   of the provider or a proxy is at fault. The same message can be sent again once that is cured.
 * - `refused`: the provider will never accept this message, because of its recipient or its text.
 *
 * `reason` is logged. It is a status or an error code, never the provider's text, which may quote
 * the message.
 */
export type SendResult =
  | Readonly<{ kind: 'accepted' }>
  | Readonly<{ kind: 'retry' | 'denied'; reason: string; afterSeconds: number | null }>
  | Readonly<{ kind: 'refused'; reason: string }>;

export const ACCEPTED: SendResult = Object.freeze({ kind: 'accepted' });

/**
 * - `failed`: the message has not reached the user, and will not.
 * - `other`: anything else, such as a step on the way.
 * - `malformed`: says nothing of a message.
 */
export type ProviderReport =
  | Readonly<{ kind: 'failed'; reason: string }>
  | Readonly<{ kind: 'other' | 'malformed' }>;

export type Channel = Readonly<{
  name: ChannelName;
  /** The format of an address that this channel needs, for error messages; null for any. */
  addressFormat: string | null;
  /** Decides by the format of the address alone. */
  accepts: (address: string) => boolean;
  /**
   * Ends within SEND_TIMEOUT_MS and never throws: an error is a `retry`.
   * @param sentAt an estimate of the database's clock
   * @param reportPath for a channel with `readReport`: where the provider reports on this message
   */
  send: (message: Message, sentAt: Instant, reportPath?: string) => Promise<SendResult>;
  /**
   * Reads what the provider reports after it has accepted a message. Absent when it is not asked
   * for reports.
   */
  readReport?: (body: string) => ProviderReport;
  close: () => void;
}>;

/** The address that a channel sends to. */
export function addressOf({ userId, to }: Recipient): string {
  return to ?? userId;
}

/** All channels in the order in which a message tries them. */
export function inOrder(
  channels: readonly Channel[],
  { channel: first = null }: Pick<Message, 'channel'>,
): readonly Channel[] {
  return first === null ? channels
    : [...channels].sort((a, b) => Number(b.name === first) - Number(a.name === first));
}

/** Some providers take 5 s when busy. An attempt without a response by then is repeated. */
export const SEND_TIMEOUT_MS = 8000;

/** Whether a host is this machine, so that traffic to it crosses no network. */
export function isLoopbackHost(host: string): boolean {
  return /^(localhost|::1|\[::1\])$/.test(host) || (isIPv4(host) && host.startsWith('127.'));
}

/** Renders messages from templates. */
export type Templates = Readonly<{
  /** The text for a phone, the console or a webhook. */
  text: (message: Message) => string;
  email: (message: Message) => Readonly<{ subject: string; text: string; html: string }>;
  /**
   * Chooses the language of a message among those in which the channel has templates.
   * @param acceptLanguage the field value (RFC 9110, 12.5.4), unchecked; '' when the request has
   *   none
   * @returns a language tag, or '' for the default language
   */
  localeFor: (channel: ChannelName, purpose: string, acceptLanguage: string) => string;
}>;
