/** Opens the channels that the configuration names. */
import type { DeliverySettings } from './delivery-settings.ts';
import type { Channel } from './otp/channel.ts';
import { createConsoleChannel } from './otp/channels/console-channel.ts';
import { createEmailChannel } from './otp/channels/email.ts';
import { createSmsChannel } from './otp/channels/sms.ts';
import { createWebhookChannel } from './otp/channels/webhook.ts';
import { say } from './terminal.ts';

/**
 * Opens them, in their order.
 *
 * @throws Error when one of them needs what is not installed, or a file that is gone
 */
export function openChannels({ channels, words }: DeliverySettings): Promise<Channel[]> {
  return Promise.all(channels.map(async (channel) => {
    switch (channel.name) {
      case 'console': return createConsoleChannel(say, words);
      case 'webhook': return createWebhookChannel(channel.settings, words);
      case 'sms': return createSmsChannel(channel.settings, words);
      case 'email': return createEmailChannel(channel.settings, words);
      default: throw new TypeError('no such channel', { cause: channel satisfies never });
    }
  }));
}
