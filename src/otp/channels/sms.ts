/** The channel `sms`: the message goes to a gateway that speaks the Messages API of Twilio. */
import type { Channel, Message, Words } from '../channel.ts';
import { createPoster } from './http-post.ts';
import type { Outgoing, PostBounds } from './http-post.ts';
import { UNAUTHORIZED, verdictOf } from './http-verdict.ts';
import { MESSAGING_SERVICE, PHONE_NUMBER } from './sms-settings.ts';
import type { SmsSettings } from './sms-settings.ts';

/**
 * Makes the channel. It reaches a user_id that is a phone number in the form of E.164.
 *
 * @param bounds other ones than those that http-post.ts names
 */
export function createSmsChannel(
  settings: SmsSettings,
  words: Words,
  bounds: PostBounds = {},
): Channel {
  const poster = createPoster({ url: messagesUrl(settings), ca: null, ...bounds });
  const authorization = authorize(settings);
  return Object.freeze({
    name: 'sms',
    wants: 'a phone number such as +14155550123',
    reaches: (userId) => PHONE_NUMBER.test(userId),
    send: async (message) => {
      const result = await poster.post(() =>
        compose(authorization, settings.sender, message, words.text(message)));
      return verdictOf(result, UNAUTHORIZED);
    },
    close: poster.close,
  });
}

function messagesUrl({ baseUrl, account }: SmsSettings): URL {
  const base = baseUrl.href.replace(/\/+$/, '');
  return new URL(`${base}/2010-04-01/Accounts/${account}/Messages.json`);
}

/** Basic authentication (RFC 7617). */
function authorize({ account, token }: SmsSettings): string {
  return `Basic ${Buffer.from(`${account}:${token}`).toString('base64')}`;
}

/** A request of the Messages API (Twilio, "Messages resource": create a message). */
function compose(
  authorization: string,
  sender: string,
  message: Message,
  text: string,
): Outgoing {
  const from = MESSAGING_SERVICE.test(sender) ? 'MessagingServiceSid' : 'From';
  const body = new URLSearchParams({ To: message.userId, Body: text, [from]: sender });
  const headers = {
    'Content-Type': 'application/x-www-form-urlencoded',
    Authorization: authorization,
    // Twilio does not look at it; gateways that do send a repeated message once.
    'Idempotency-Key': message.otpId,
  };
  return { headers, body: body.toString() };
}
