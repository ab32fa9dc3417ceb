/** The SMS channel: the Messages API of Twilio, or of a gateway that implements it. */
import type { Channel, Message, Templates } from './channel.ts';
import { createPoster, parseEndpointUrl, UNAUTHORIZED, httpSendResult } from './http-client.ts';
import type { HttpPayload, PostBounds } from './http-client.ts';
import { PHONE_NUMBER } from './recipients.ts';

/** The account at the gateway, and the sender of all messages. */
export type SmsSettings = Readonly<{
  /** The URL of the gateway, without the path of the Messages API. */
  baseUrl: URL;
  account: string;
  token: string;
  /** A phone number, a short code, a name, or the SID of a messaging service. */
  sender: string;
}>;

/** The variables of the channel; undefined when not set. */
export type SmsValues = Readonly<{
  account: string | undefined;
  token: string | undefined;
  sender: string | undefined;
  /** The default is the gateway of Twilio. */
  baseUrl: string | undefined;
}>;

const DEFAULT_BASE_URL = 'https://api.twilio.com';

/**
 * The account stands in the URL path and before the colon of Basic authentication (RFC 7617, 2).
 */
const ACCOUNT = /^[\w-]{1,64}$/;

/** RFC 7617, 2 leaves the encoding of other characters open. */
const TOKEN = /^[\x21-\x7e]{1,256}$/;

const SHORT_CODE = /^\d{3,8}$/;
/** Twilio, "Alphanumeric Sender ID": up to 11 of these characters, at least one letter. */
const SENDER_NAME = /^(?=.*[A-Za-z])[A-Za-z0-9 &+_-]{1,11}$/;
/** The SID of a Twilio messaging service. */
const MESSAGING_SERVICE = /^MG[0-9A-Za-z]{32}$/;

const SENDERS = [PHONE_NUMBER, SHORT_CODE, SENDER_NAME, MESSAGING_SERVICE];

/** @returns the settings, or every error with its variable and no value */
export function parseSmsSettings(
  values: SmsValues,
): { settings: SmsSettings } | { errors: string[] } {
  const { account = '', token = '', sender = '' } = values;
  const errors: string[] = [];
  if (!ACCOUNT.test(account)) {
    errors.push('SMS_ACCOUNT must be an account SID: 1 to 64 letters, digits, _ or -');
  }
  if (!TOKEN.test(token)) errors.push('SMS_TOKEN must be 1 to 256 ASCII characters without spaces');
  if (!SENDERS.some((form) => form.test(sender))) {
    errors.push('SMS_SENDER must be a phone number such as +14155550123, a short code, a name of'
      + ' up to 11 characters, or the SID of a messaging service (MG…)');
  }
  const base = parseBaseUrl(values.baseUrl ?? DEFAULT_BASE_URL);
  if ('error' in base) errors.push(`SMS_BASE_URL ${base.error}`);
  if ('error' in base || errors.length > 0) return { errors };
  return { settings: Object.freeze({ baseUrl: base.url, account, token, sender }) };
}

function parseBaseUrl(text: string): { url: URL } | { error: string } {
  if (text.includes('?')) return { error: 'must not have a query' };
  return parseEndpointUrl(text, false);
}

/** @param bounds replace the defaults of http-client.ts */
export function createSmsChannel(
  settings: SmsSettings,
  templates: Templates,
  bounds: PostBounds = {},
): Channel {
  const poster = createPoster({ url: messagesUrl(settings), ca: null, ...bounds });
  const authorization = basicAuthorization(settings);
  return Object.freeze({
    name: 'sms',
    addressFormat: 'a phone number such as +14155550123',
    accepts: (userId) => PHONE_NUMBER.test(userId),
    send: async (message) => {
      const result = await poster.post(() =>
        compose(authorization, settings.sender, message, templates.text(message)));
      return httpSendResult(result, UNAUTHORIZED);
    },
    close: poster.close,
  });
}

function messagesUrl({ baseUrl, account }: SmsSettings): URL {
  const base = baseUrl.href.replace(/\/+$/, '');
  return new URL(`${base}/2010-04-01/Accounts/${account}/Messages.json`);
}

function basicAuthorization({ account, token }: SmsSettings): string {
  return `Basic ${Buffer.from(`${account}:${token}`).toString('base64')}`;
}

/** Creates a message (Twilio, "Messages resource"). */
function compose(
  authorization: string,
  sender: string,
  message: Message,
  text: string,
): HttpPayload {
  const from = MESSAGING_SERVICE.test(sender) ? 'MessagingServiceSid' : 'From';
  const body = new URLSearchParams({ To: message.userId, Body: text, [from]: sender });
  const headers = {
    'Content-Type': 'application/x-www-form-urlencoded',
    Authorization: authorization,
    // Twilio ignores the header; a gateway that supports it sends a repeated message once.
    'Idempotency-Key': message.otpId,
  };
  return { headers, body: body.toString() };
}
