/** What the answer of a provider over HTTP means for the message. */
import type { Verdict } from '../channel.ts';
import type { PostResult } from './http-post.ts';

const ACCEPTED: Verdict = Object.freeze({ kind: 'accepted' });

/** Request Timeout, Too Early and Too Many Requests say: not now. */
const NOT_NOW: ReadonlySet<number> = new Set([408, 425, 429]);

/** Says nothing of the message: the account is at fault, and may be mended in time. */
export const UNAUTHORIZED = 401;

/**
 * Judges the result of a request (RFC 9110, 15; RFC 8470, 5.2; RFC 6585, 4).
 *
 * - `accepted`: 2xx.
 * - `refused`: 3xx, for redirects are not followed, and 4xx but those that say "not now", or are
 *   about something else than the message.
 * - `retry`: those, 5xx and any other status, after the seconds of Retry-After; and no answer.
 *
 * @param aboutElse a status of the provider that says nothing of the message; null: none
 * @returns a verdict whose reason is such as `status 503` or `ECONNREFUSED`
 */
export function verdictOf(result: PostResult, aboutElse: number | null = null): Verdict {
  if ('code' in result) return { kind: 'retry', reason: result.code, afterSeconds: null };
  const { status, retryAfterSeconds } = result;
  const reason = `status ${status}`;
  const hundreds = Math.floor(status / 100);
  if (hundreds === 2) return ACCEPTED;
  const isNotNow = NOT_NOW.has(status) || status === aboutElse;
  if ((hundreds === 3 || hundreds === 4) && !isNotNow) {
    return { kind: 'refused', reason };
  }
  return { kind: 'retry', reason, afterSeconds: retryAfterSeconds };
}
