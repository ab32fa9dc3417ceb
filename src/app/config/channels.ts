/** The delivery settings: the channels with their variables, and the message templates. */
import type { EnvReader } from './env-reader.ts';
import { CHANNEL_NAMES } from '../../otp/channels/channel.ts';
import type { ChannelName } from '../../otp/channels/channel.ts';
import { parseEmailSettings } from '../../otp/channels/email-settings.ts';
import type { EmailSettings } from '../../otp/channels/email-settings.ts';
import { parseProxies } from '../../otp/channels/proxy.ts';
import type { FindProxy } from '../../otp/channels/proxy.ts';
import { parseSmsSettings } from '../../otp/channels/sms.ts';
import type { SmsSettings } from '../../otp/channels/sms.ts';
import { parseWebhookSettings } from '../../otp/channels/webhook-settings.ts';
import type { WebhookSettings } from '../../otp/channels/webhook-settings.ts';
import type { Policies } from '../../otp/policy/policy.ts';
import { loadTemplates } from '../../otp/templates/load.ts';
import type { TemplateSet } from '../../otp/templates/load.ts';

export type ChannelSettings =
  | Readonly<{ name: 'console' }>
  | Readonly<{ name: 'webhook'; settings: WebhookSettings }>
  | Readonly<{ name: 'sms'; settings: SmsSettings }>
  | Readonly<{ name: 'email'; settings: EmailSettings }>;

/** The channels in the order in which they are tried, and the templates of their messages. */
export type DeliverySettings = Readonly<{
  channels: readonly ChannelSettings[];
  templates: TemplateSet;
  /** For the channels that speak HTTP. */
  findProxy: FindProxy;
}>;

/**
 * Reads the variables of the channels that DELIVERY names, and of no other channel.
 *
 * @param policies null when their file has errors
 * @returns null when the reader has collected an error
 */
export function readDelivery(
  reader: EnvReader,
  policies: Policies | null,
): DeliverySettings | null {
  const names = readNames(reader);
  const channels = names.map((name) => readChannel(reader, name));
  const loaded = accept(reader, loadTemplates({
    folder: reader.text('MESSAGES_FOLDER') ?? null,
    domain: reader.text('MESSAGE_DOMAIN') ?? null,
    language: reader.text('MESSAGES_LANGUAGE') ?? null,
    brand: reader.text('MESSAGES_BRAND') ?? null,
    channels: names,
  }));
  if (policies !== null) reader.errors.push(...loaded?.templates.validate(policies) ?? []);
  const proxies = names.some((name) => SPEAKS_HTTP.has(name)) ? readProxies(reader) : DIRECT;
  const known = channels.filter((channel) => channel !== null);
  const isComplete = known.length > 0 && known.length === channels.length;
  if (loaded === null || proxies === null || !isComplete) return null;
  const { templates } = loaded;
  return Object.freeze({ channels: known, templates, findProxy: proxies.findProxy });
}

const SPEAKS_HTTP: ReadonlySet<ChannelName> = new Set<ChannelName>(['webhook', 'sms']);

const DIRECT = Object.freeze({ findProxy: () => null });

/** These variables are not otpd's own: without a channel that uses them, any value is right. */
function readProxies(reader: EnvReader): Readonly<{ findProxy: FindProxy }> | null {
  return accept(reader, parseProxies({
    https: reader.text('https_proxy') ?? reader.text('HTTPS_PROXY'),
    http: reader.text('http_proxy') ?? reader.text('HTTP_PROXY'),
    bypass: reader.text('no_proxy') ?? reader.text('NO_PROXY'),
  }));
}

/** The default is the console, which NODE_ENV=production refuses. */
function readNames(reader: EnvReader): ChannelName[] {
  const names = (reader.text('DELIVERY') ?? 'console').split(',').map((name) => name.trim());
  const allowed: readonly string[] = CHANNEL_NAMES;
  if (names.some((name) => !allowed.includes(name)) || new Set(names).size < names.length) {
    reader.errors.push(`DELIVERY must list one or more of ${allowed.join(', ')}, each once`);
    return [];
  }
  if (names.includes('console') && reader.text('NODE_ENV') === 'production') {
    reader.errors.push('DELIVERY must be set, and must not list console, with NODE_ENV=production');
  }
  return names as ChannelName[];
}

function readChannel(reader: EnvReader, name: ChannelName): ChannelSettings | null {
  switch (name) {
    case 'console': return { name };
    case 'webhook': return withSettings(name, accept(reader, parseWebhookSettings({
      url: reader.text('WEBHOOK_URL'),
      secrets: reader.secretText('WEBHOOK_SECRETS'),
      allowHttp: reader.text('WEBHOOK_ALLOW_HTTP'),
      caFile: reader.text('WEBHOOK_CA'),
    })));
    case 'sms': return withSettings(name, accept(reader, parseSmsSettings({
      account: reader.text('SMS_ACCOUNT'),
      token: reader.secretText('SMS_TOKEN'),
      sender: reader.text('SMS_SENDER'),
      baseUrl: reader.text('SMS_BASE_URL'),
      statusUrl: reader.text('SMS_STATUS_URL'),
    })));
    case 'email': return withSettings(name, accept(reader, parseEmailSettings({
      url: reader.secretText('SMTP_URL'),
      from: reader.text('EMAIL_FROM'),
      caFile: reader.text('SMTP_CA'), logoFile: reader.text('EMAIL_LOGO'),
    })));
    default: throw new TypeError(`no such channel: ${name satisfies never}`);
  }
}

/** The result, or null after its errors went to the reader. */
function accept<T extends object>(reader: EnvReader, result: T | { errors: string[] }): T | null {
  if (!('errors' in result)) return result;
  reader.errors.push(...result.errors);
  return null;
}

function withSettings<N extends ChannelName, S>(name: N, read: Readonly<{ settings: S }> | null) {
  return read === null ? null : { name, settings: read.settings };
}
