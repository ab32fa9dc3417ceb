/**
 * The webhook channel: posts each message as signed JSON to the operator's own receiver, as
 * Standard Webhooks specifies (https://www.standardwebhooks.com).
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
 * @param bounds replace the defaults of http-client.ts
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

/** Every attempt has the same webhook-id. */
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
      // Absent when the message goes to the user_id.
      to: message.to ?? undefined,
      purpose: message.purpose,
      code: message.code,
      locale: message.locale === '' ? null : message.locale,
      expires_at: toIso(message.expiresAt),
      text,
    },
  });
}

/** ISO 8601 in UTC. Rounded down to milliseconds, so that no code appears to live longer. */
function toIso(instant: Instant): string {
  return new Date(Math.floor(instant / MICROSECONDS_PER_MILLISECOND)).toISOString();
}
