/** The console channel, for trying out: the message is printed where otpd was started. */
import { composeText } from './message.ts';
import type { Deliver } from './message.ts';

/**
 * Makes the channel.
 *
 * @param print writes one line to the console
 */
export function createConsoleChannel(print: (line: string) => void): Deliver {
  return (message) => print(`message to ${message.userId}: ${composeText(message)}`);
}
