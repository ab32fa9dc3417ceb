/** Opens the delivery channels that the configuration names. */
import type { ChannelSettings, DeliverySettings } from './config/channels.ts';
import { ConfigError } from './config/env-reader.ts';
import type { Channel, Templates } from '../otp/channels/channel.ts';
import { createConsoleChannel } from '../otp/channels/console.ts';
import { createEmailChannel } from '../otp/channels/email.ts';
import type { FindProxy } from '../otp/channels/proxy.ts';
import { createSmsChannel } from '../otp/channels/sms.ts';
import { createWebhookChannel } from '../otp/channels/webhook.ts';
import { print } from './output.ts';

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
