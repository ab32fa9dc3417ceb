/** Opens the delivery channels that the configuration names, and shows what they would send. */
import type { ChannelSettings, DeliverySettings } from './config/channels.ts';
import { ConfigError } from './config/env-reader.ts';
import type { Channel, ChannelName, Message, Templates } from '../otp/channels/channel.ts';
import { createConsoleChannel } from '../otp/channels/console.ts';
import { createEmailChannel } from '../otp/channels/email.ts';
import type { FindProxy } from '../otp/channels/proxy.ts';
import { createSmsChannel } from '../otp/channels/sms.ts';
import { createWebhookChannel } from '../otp/channels/webhook.ts';
import type { Policies } from '../otp/policy/policy.ts';
import { isWellFormedTag } from '../otp/templates/language-tags.ts';
import { measureSms } from '../otp/templates/template.ts';
import { print, UsageError } from './output.ts';
import type { Report } from './output.ts';

/**
 * The channels keep the order of DELIVERY, in which they are tried.
 *
 * @throws ConfigError when a channel needs a package that is not installed, or a file is missing
 */
export async function openChannels(
  { channels, findProxy }: DeliverySettings,
  templates: Templates,
): Promise<Channel[]> {
  try {
    return await Promise.all(channels.map((channel) =>
      openChannel(channel, templates, findProxy)));
  } catch (error) {
    throw new ConfigError((error as Error).message, { cause: error });
  }
}

async function openChannel(
  channel: ChannelSettings,
  templates: Templates,
  findProxy: FindProxy,
): Promise<Channel> {
  switch (channel.name) {
    case 'console': return createConsoleChannel(print, templates);
    case 'webhook': return createWebhookChannel(channel.settings, templates, { findProxy });
    case 'sms': return createSmsChannel(channel.settings, templates, { findProxy });
    case 'email': return createEmailChannel(channel.settings, templates);
    default: throw new TypeError('no such channel', { cause: channel satisfies never });
  }
}

const SAMPLE_DIGITS = '1234567890';
const SAMPLE_OTP_ID = 'ae3a4a20d048b525b48dd253fcbc774c';

/**
 * `otpd preview`: what each channel would send for a purpose to readers of a language.
 *
 * @throws UsageError when nobody could request a code with these values
 */
export function previewMessages(
  { channels, templates }: DeliverySettings,
  policies: Policies,
  purpose: string,
  locale: string,
): Report {
  if (!policies.allows(purpose)) throw new UsageError('PURPOSE must be one of allowed_purposes');
  if (!isWellFormedTag(locale)) throw new UsageError('LOCALE must be a language tag such as de');
  const { codeDigits, lifetimeSeconds } = policies.for(purpose);
  const labelled = templates.withLabels(policies);
  const previews = channels.map(({ name }) => previewMessage(labelled, name, {
    otpId: SAMPLE_OTP_ID, userId: '', purpose, code: SAMPLE_DIGITS.slice(0, codeDigits),
    lifetimeSeconds, expiresAt: 0, locale: labelled.localeFor(name, purpose, locale),
  }));
  return {
    isDone: true,
    lines: previews.flatMap(({ lines }) => lines),
    data: { purpose, locale, messages: previews.map(({ data }) => data) },
  };
}

function previewMessage(templates: Templates, channel: ChannelName, message: Message) {
  const locale = message.locale === '' ? null : message.locale;
  const title = `${channel}, in ${locale ?? 'the default language'}`;
  if (channel === 'email') {
    const parts = templates.email(message);
    const { subject, text, html } = parts;
    return {
      data: { channel, locale, ...parts },
      lines: [title, `subject: ${subject}`, 'text:', text, 'html:', html, ''],
    };
  }
  const text = templates.text(message);
  const { length, max } = measureSms(text);
  const size = channel === 'sms' ? [`${length} of ${max} characters`] : [];
  return { data: { channel, locale, text, length, max }, lines: [title, ...size, text, ''] };
}
