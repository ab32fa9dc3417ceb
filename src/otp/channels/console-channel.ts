/** The console channel, for trying out: the message is printed where otpd was started. */
import type { Channel, Words } from '../channel.ts';

/**
 * Makes the channel. It takes every message at once.
 *
 * @param print writes one line to the console
 */
export function createConsoleChannel(print: (line: string) => void, words: Words): Channel {
  return {
    name: 'console',
    wants: null,
    reaches: () => true,
    send: (message) => {
      print(`message to ${message.userId}: ${words.text(message)}`);
      return Promise.resolve({ kind: 'accepted' });
    },
    close: () => {},
  };
}
