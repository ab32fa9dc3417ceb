/** What the answer of a provider over HTTP means for the message. */
import type { Verdict } from '../channel.ts';
import type { PostResult } from './http-post.ts';

const ACCEPTED: Verdict = Object.freeze({ kind: 'accepted' });

/** 408 Request Timeout, 425 Too Early and 429 Too Many Requests say: not now. */
const NOT_NOW = /^4(?:08|25|29)$/;

/**
 * Judges the result of a request (RFC 9110, 15; RFC 8470, 5.2; RFC 6585, 4).
 *
 * - `accepted`: 2xx.
 * - `refused`: 3xx, for redirects are not followed, and 4xx but those that say "not now".
 * - `retry`: those, 5xx and any other status, after the seconds of Retry-After; and no answer.
 *
 * @returns a verdict whose reason is such as `status 503` or `ECONNREFUSED`
 */
export function verdictOf(result: PostResult): Verdict {
  if ('code' in result) return { kind: 'retry', reason: result.code, afterSeconds: null };
  const { status, retryAfterSeconds } = result;
  const reason = `status ${status}`;
  const hundreds = Math.floor(status / 100);
  if (hundreds === 2) return ACCEPTED;
  if ((hundreds === 3 || hundreds === 4) && !NOT_NOW.test(String(status))) {
    return { kind: 'refused', reason };
  }
  return { kind: 'retry', reason, afterSeconds: retryAfterSeconds };
}
