/**
 * The channel `webhook`: the message goes to a receiver of the operator's own as signed JSON, as
 * Standard Webhooks prescribes (https://www.standardwebhooks.com).
 */
import { readFileSync } from 'node:fs';
import type { Channel, Message, Templates } from './channel.ts';
import { MICROSECONDS_PER_MILLISECOND, MICROSECONDS_PER_SECOND } from '../../db/instant.ts';
import type { Instant } from '../../db/instant.ts';
import { createPoster, httpSendResult } from './http-client.ts';
import type { HttpPayload, PostBounds } from './http-client.ts';
import { signWebhook } from './webhook-settings.ts';
import type { WebhookSettings } from './webhook-settings.ts';

/**
 * Makes the channel.
 *
 * @param bounds other ones than those that http-post.ts names
 * @throws Error when the CA file cannot be read
 */
export function createWebhookChannel(
  settings: WebhookSettings,
  templates: Templates,
  bounds: PostBounds = {},
): Channel {
  const { url, secrets, caFile = null } = settings;
  const ca = caFile === null ? null : readFileSync(caFile, 'utf8');
  const poster = createPoster({ url, ca, ...bounds });
  return Object.freeze({
    name: 'webhook',
    addressFormat: null,
    accepts: () => true,
    send: async (message, sentAt) =>
      httpSendResult(await poster.post(() =>
        compose(secrets, message, templates.text(message), sentAt))),
    close: poster.close,
  });
}

/** A request whose headers are those of Standard Webhooks; the id is the same in every attempt. */
function compose(
  secrets: readonly Buffer[],
  message: Message,
  text: string,
  sentAt: Instant,
): HttpPayload {
  const body = writeBody(message, text, sentAt);
  const timestamp = String(Math.floor(sentAt / MICROSECONDS_PER_SECOND));
  const headers = {
    'Content-Type': 'application/json',
    'webhook-id': message.otpId,
    'webhook-timestamp': timestamp,
    'webhook-signature': signWebhook(secrets, message.otpId, timestamp, body),
  };
  return { headers, body };
}

function writeBody(message: Message, text: string, sentAt: Instant): string {
  return JSON.stringify({
    type: 'otp.issued',
    timestamp: toIso(sentAt),
    data: {
      otp_id: message.otpId,
      user_id: message.userId,
      purpose: message.purpose,
      code: message.code,
      locale: message.locale === '' ? null : message.locale,
      expires_at: toIso(message.expiresAt),
      text,
    },
  });
}

/** ISO 8601 in UTC, cut to milliseconds, so that no code seems to live longer than it does. */
function toIso(instant: Instant): string {
  return new Date(Math.floor(instant / MICROSECONDS_PER_MILLISECOND)).toISOString();
}
