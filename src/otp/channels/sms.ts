/** The SMS channel: the Messages API of Twilio, or of a gateway that implements it. */
import { addressOf } from './channel.ts';
import type { Channel, Message, ProviderReport, SendResult, Templates } from './channel.ts';
import { createPoster, httpSendResult, parseEndpointUrl, UNAUTHORIZED } from './http-client.ts';
import type { HttpPayload, PostBounds, PostResult } from './http-client.ts';
import { PHONE_NUMBER } from './recipients.ts';

/** The account at the gateway, and the sender of all messages. */
export type SmsSettings = Readonly<{
  /** The URL of the gateway, without the path of the Messages API. */
  baseUrl: URL;
  account: string;
  token: string;
  /** A phone number, a short code, a name, or the SID of a messaging service. */
  sender: string;
  /** The URL of otpd at which the gateway reports failures later; null: it is not asked to. */
  statusUrl: URL | null;
}>;

/** The variables of the channel; undefined when not set. */
export type SmsValues = Readonly<{
  account: string | undefined;
  token: string | undefined;
  sender: string | undefined;
  /** The default is the gateway of Twilio. */
  baseUrl: string | undefined;
  statusUrl: string | undefined;
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
  const status = values.statusUrl === undefined ? { url: null } : parseBaseUrl(values.statusUrl);
  if ('error' in status) errors.push(`SMS_STATUS_URL ${status.error}`);
  if ('error' in base || 'error' in status || errors.length > 0) return { errors };
  const settings = { baseUrl: base.url, account, token, sender, statusUrl: status.url };
  return { settings: Object.freeze(settings) };
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
  const poster = createPoster({
    url: messagesUrl(settings), ca: null, readsBody: true, ...bounds,
  });
  const authorization = basicAuthorization(settings);
  const { sender, statusUrl } = settings;
  return Object.freeze({
    name: 'sms',
    addressFormat: 'a phone number such as +14155550123',
    accepts: (address) => PHONE_NUMBER.test(address),
    send: async (message, _sentAt, reportPath) => {
      const callback = statusUrl === null || reportPath === undefined ? null
        : withoutSlash(statusUrl) + reportPath;
      const result = await poster.post(() =>
        compose({ authorization, callback, sender }, message, templates.text(message)));
      return smsSendResult(result);
    },
    ...(statusUrl === null ? {} : { readReport }),
    close: poster.close,
  });
}

function messagesUrl({ baseUrl, account }: SmsSettings): URL {
  return new URL(`${withoutSlash(baseUrl)}/2010-04-01/Accounts/${account}/Messages.json`);
}

function withoutSlash({ href }: URL): string {
  return href.replace(/\/+$/, '');
}

function basicAuthorization({ account, token }: SmsSettings): string {
  return `Basic ${Buffer.from(`${account}:${token}`).toString('base64')}`;
}

type Envelope = Readonly<{ authorization: string; callback: string | null; sender: string }>;

/** Creates a message (Twilio, "Messages resource"). */
function compose(
  { authorization, callback, sender }: Envelope,
  message: Message,
  text: string,
): HttpPayload {
  const from = MESSAGING_SERVICE.test(sender) ? 'MessagingServiceSid' : 'From';
  const body = new URLSearchParams({ To: addressOf(message), Body: text, [from]: sender });
  if (callback !== null) body.append('StatusCallback', callback);
  const headers = {
    'Content-Type': 'application/x-www-form-urlencoded',
    Authorization: authorization,
    // Twilio ignores the header; a gateway that supports it sends a repeated message once.
    'Idempotency-Key': message.otpId,
  };
  return { headers, body: body.toString() };
}

/** The states of a message that has not been sent and will not be. */
const FAILED_STATES: ReadonlySet<unknown> = new Set(['failed', 'undelivered', 'canceled']);

type FailureKind = Exclude<SendResult['kind'], 'accepted'>;

/**
 * What some error codes of the Messages API are about. Another code is about the message after a
 * 2xx, and otherwise about what the status says.
 */
const CODES_BY_KIND: Readonly<Record<FailureKind, readonly number[]>> = Object.freeze({
  denied: [
    // The account, its credentials or a daily maximum.
    20003, 20005, 20006, 20008, 20404, 30002, 30023, 63038,
    // The sender: not owned, unable to send text messages, not registered with the carriers.
    21210, 21212, 21267, 21603, 21606, 21607, 21659, 21660, 21661, 21703, 21704, 21705,
    30024, 30032, 30034, 30035,
  ],
  // A rate limit, a full queue, an error of the provider.
  retry: [20429, 20500, 20503, 21611, 30001, 30022],
  // The recipient: an invalid number, a landline, a region that is not enabled, an opt-out.
  refused: [
    21211, 21214, 21265, 21408, 21608, 21610, 21612, 21614, 30003, 30004, 30005, 30006, 30007,
  ],
});

function findKind(code: number | null): FailureKind | undefined {
  if (code === null) return undefined;
  return (['denied', 'retry', 'refused'] as const)
    .find((kind) => CODES_BY_KIND[kind].includes(code));
}

/**
 * A message is accepted if the gateway says so: a 2xx whose body reports a failure does not. A body
 * that is not a JSON object says nothing, so the status decides alone; but a web page comes from a
 * server that is no gateway. The body of an error has the status that counts.
 */
function smsSendResult(result: PostResult): SendResult {
  const byStatus = httpSendResult(result);
  if (!('status' in result) || result.status === UNAUTHORIZED) return byStatus;
  const { status, retryAfterSeconds: afterSeconds, body = '' } = result;
  const isAccepted = byStatus.kind === 'accepted';
  if (isAccepted && /^\s*<(?:!doctype html|html)\b/i.test(body)) {
    return { kind: 'denied', reason: `status ${status}, a web page`, afterSeconds };
  }
  const { status: bodyStatus } = parseObject(body);
  if (isAccepted && /^[45]\d\d$/.test(String(bodyStatus))) {
    return smsSendResult({ ...result, status: Number(bodyStatus) });
  }
  const { code, hasFailed } = isAccepted ? readMessage(body) : readError(body);
  if (!hasFailed) return byStatus;
  const reason = `status ${status}, ${code === null ? 'failed' : `error ${code}`}`;
  const kind = findKind(code)
    ?? (byStatus.kind === 'accepted' ? 'refused' : byStatus.kind);
  return kind === 'refused' ? { kind, reason } : { kind, reason, afterSeconds };
}

/** A report of the gateway, a form (Twilio, "Track the Message Status of Outbound Messages"). */
function readReport(body: string): ProviderReport {
  const form = new URLSearchParams(body);
  const state = (form.get('MessageStatus') ?? form.get('SmsStatus') ?? '').toLowerCase();
  if (state === '') return { kind: 'malformed' };
  if (!FAILED_STATES.has(state)) return { kind: 'other' };
  const code = readCode(form.get('ErrorCode'));
  return { kind: 'failed', reason: code === null ? state : `${state}, error ${code}` };
}

type Failure = Readonly<{ code: number | null; hasFailed: boolean }>;

/** The body of a 2xx describes the message, which may have failed already. */
function readMessage(body: string): Failure {
  const message = parseObject(body);
  const state = String(message.status ?? message.Status ?? '').toLowerCase();
  const error = message.error_code ?? message.ErrorCode ?? '';
  const hasError = !['', '0', 'false'].includes(String(error));
  return { code: readCode(error), hasFailed: hasError || FAILED_STATES.has(state) };
}

/** The body of any other status describes the error. */
function readError(body: string): Failure {
  const { code, error_code: errorCode } = parseObject(body);
  const known = readCode(code ?? errorCode);
  return { code: known, hasFailed: known !== null };
}

/**
 * Null for anything but a number of at most five digits, which might be text from the gateway: no
 * code for a user has fewer than six.
 */
function readCode(value: unknown): number | null {
  return /^[1-9]\d{0,4}$/.test(String(value)) ? Number(value) : null;
}

/** Empty for anything but a JSON object. */
function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text.replace(/^\ufeff/, ''));
    return typeof value === 'object' && value !== null ? value as Record<string, unknown> : {};
  } catch {
    return {};
  }
}
