/** The output of otpd: messages with their codes, log lines, and texts for a person. */

/** A message contains its code; all other output must contain none. */
const MESSAGE_LINE = /^message to [^\n]*: (\d+) is your code.*\n/gm;

/** A log line when standard error is not a terminal. */
const LOG_LINE = /^\{"time":.*\n/gm;

/** The codes of all messages, in order. */
export function codesIn(output: string): string[] {
  return [...output.matchAll(MESSAGE_LINE)].map(([, code]) => code!);
}

export function withoutMessages(output: string): string {
  return output.replace(MESSAGE_LINE, '');
}

/** The log goes through another stream, so its lines may come at any place. */
export function withoutLog(output: string): string {
  return output.replace(LOG_LINE, '');
}
